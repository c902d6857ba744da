"""The story of `aecli tour`: eight ideas, the commands that show them, and what to look for."""

from typing import NamedTuple


class Step(NamedTuple):
    """An idea with its picture.

    In `commands` and in `picture`, `{digits}` is the folder of the tour's runs on digits, `{run}`
    the newest run and `{sweep}` the newest sweep in it, `{wine}` a folder with a table.
    """

    title: str
    idea: str
    commands: tuple[str, ...]
    """As they are typed, without `aecli`."""
    picture: str
    """A path."""
    question: str
    """Its answer is in the picture."""


COMPARE = "compare {sweep} --output {sweep}/pictures"

STEPS = (
    Step(
        "Compression: a code of a few numbers",
        "An autoencoder squeezes an example through a few numbers, its code, and rebuilds the"
        " example from them. The oldest one is PCA: both ways are linear, and nothing needs to be"
        " trained step by step. Here each image of 64 pixels passes through 2, 8 or 32 numbers.",
        ("train -m model=pca model.code_dim=2,8,32 output_dir={digits}", COMPARE),
        "{sweep}/pictures/grid.png",
        "How many numbers does a code need until you can read every digit?",
    ),
    Step(
        "Nonlinear codes",
        "With PCA, every output is a mean image plus the code's numbers times fixed images. With a"
        " neural network on each side, the same numbers can say more. Here both models have two"
        " numbers for an image.",
        ("train -m model=pca,ae model.code_dim=2 output_dir={digits}", COMPARE),
        "{sweep}/pictures/grid.png",
        "Which of the two rows of outputs is easier to read, and which digits come out as a mixture"
        " in both?",
    ),
    Step(
        "Noise in, clean out",
        "A denoising autoencoder is shown corrupted images and has to return the clean ones. So it"
        " cannot just copy its input: it has to learn what digits look like. The picture has images"
        " that it was not trained on, clean and with noise, each above its output.",
        (
            "train model=dae noise=gaussian noise.std=0.5 output_dir={digits}",
            "eval run=latest output_dir={digits} eval.noise=gaussian eval.noise_levels=[0.5]"
            " eval.protocol=none",
        ),
        "{run}/eval/reconstructions.png",
        "Cover the first two rows. Which noisy digits can you not read, and what does the model"
        " make of them?",
    ),
    Step(
        "Sparse codes",
        "A code may also be wider than the image, if only a few of its units are active at a time."
        " A penalty on the activations (L1) sees to it: a unit stays at 0 unless it is worth its"
        " price. In the picture each row is the code of one digit; white is 0.",
        (
            "train model=ae network=linear sparsity=l1 sparsity.weight=0.3 model.code_dim=100"
            " output_dir={digits}",
            "eval run=latest output_dir={digits} eval.protocol=none",
        ),
        "{run}/eval/activations.png",
        "How much of a row is white? Do two images of the same digit use the same units?",
    ),
    Step(
        "Exactly k units",
        "Instead of a penalty, a k-sparse autoencoder keeps the k largest units of each code and"
        " sets the others to 0. Its output is a weighted sum of k images that it has learned, one"
        " for each of those units, on top of one that all outputs share. Here it has 100 of them"
        " and may use 1, 5 or 25.",
        (
            "train -m model=ksparse_ae model.code_dim=100 sparsity.k=1,5,25 output_dir={digits}",
            COMPARE,
        ),
        "{sweep}/pictures/grid.png",
        "What is left of a digit with k=1, and from which k on can you read all of them?",
    ),
    Step(
        "A latent space that can be sampled",
        "A variational autoencoder (VAE) gives each image not a point but a small cloud of codes,"
        " and pulls all clouds together towards a normal distribution around 0, the prior. So"
        " points between the clouds have a meaning, too: draw one from the prior, decode it, and"
        " there is a new image. The picture is the decoded plane of codes.",
        (
            "train model=vae model.code_dim=2 likelihood=gaussian output_dir={digits}",
            "sample run=latest output_dir={digits} kind=manifold",
        ),
        "{run}/samples/manifold.png",
        "Find two different digits that are neighbours. What lies between them?",
    ),
    Step(
        "What β does",
        "A VAE's loss has two parts: how well an image is rebuilt, and β times how far its cloud is"
        " from the prior (the KL divergence). The picture has the centres of the clouds for three"
        " values of β, on one scale, and the prior as two circles: one and two standard"
        " deviations.",
        (
            "train -m model=vae model.code_dim=2 model.beta=0.01,1,20 output_dir={digits}",
            COMPARE,
        ),
        "{sweep}/pictures/codes.png",
        "With which β do the codes fill the circles? Where do they lie with the others, and what"
        " would a draw from the prior hit there?",
    ),
    Step(
        "Your own data",
        "None of this is about digits: a folder of pictures, an array or a table trains as it is."
        " Here it is a table, {wine}/wine.csv: 178 wines from three cultivars of grapes, with 13"
        " chemical measurements each. The cultivar is only there to colour the picture, of wines"
        " that were not trained on; the model never sees it.",
        (
            "train model=vae model.code_dim=2 dataset=table dataset.file={wine}/wine.csv"
            " dataset.label=cultivar dataset.split=part trainer.max_epochs=100 output_dir={wine}",
            "eval run=latest output_dir={wine} eval.protocol=none",
        ),
        "{run}/eval/codes.png",
        "Could you tell the three cultivars apart without the colours?",
    ),
)

EXPLORE = "explore run={made} out={tour}/explore.html"
"""The last command: a page of all runs in `{made}`."""
END = (
    "The models of digits in one page: choose a model, move through its codes, and see what they"
    " decode to. Open it in a browser."
)
