"""Slips of the finger: what is typed gets a run, or one plain line that says what is allowed."""

import random
import shlex
from pathlib import Path

import pytest
import torch

from aecli.errors import SettingError, check_int, check_list
from aecli.overrides import checked
from tests.commandline import FOREIGN, aecli, is_one_line

TINY = ("trainer=debug", "pictures_every=0", "network.hidden=[8]", "dataset.train_size=64")
"""What makes a training take a tenth of a second."""

SLIPS = [
    ("--model vae", "aecli: --model vae: no such flag; settings are typed as model=vae"),
    ("--model=vae", "aecli: --model=vae: no such flag; settings are typed as model=vae"),
    ("--experimental-rerun x.pickle", "aecli: --experimental-rerun: runs"),
    ("--cfg", "aecli: --cfg: --cfg must be followed by one of job, hydra, all"),
    ("--cfg jop", "aecli: --cfg jop: --cfg must be followed by one of job, hydra, all"),
    ("--config-dir", "aecli: --config-dir: needs a value after it"),
    ("-m=3", "aecli: -m=3: -m takes no value"),
    ("latest", "aecli: latest: must be SETTING=VALUE, such as model=vae"),
    ("resume latest", "aecli: resume: must be SETTING=VALUE, such as resume=latest"),
    ("model.beta 4", "aecli: model.beta: must be SETTING=VALUE, such as model.beta=4"),
    ("output_dir=ünï", """as in 'output_dir="ünï"'"""),
    (
        "~output_dir",
        "aecli: ~output_dir: a setting cannot be taken away; set it, as in output_",
    ),
    ("model@x=vae", "aecli: model@x=vae: a group has one place here; leave out the @"),
    ("plugins=my_noise", "aecli: plugins=my_noise: must be a list, such as [my_noise]"),
    ("plugins=[my_noise]", "aecli: plugins=[my_noise]: there is no module my_noise in this folder"),
    ("plugins=[my_noise.py]", "each value must be the name of a module, without a path or an end"),
    ("plugins=[./my_noise]", "each value must be the name of a module, without a path or an end"),
    ("-m plugins=[a],[b]", "aecli: plugins=[a],[b]: must be one value for the whole sweep"),
    ("hydra.run.dir=.", "aecli: hydra.run.dir=.: must be a new directory"),
    ("model=[vae]", "aecli: model=[vae]: must be one of ae, batch_topk_sae, contractive_ae"),
    ("model=null", "aecli: model=null: must be one of ae, batch_topk_sae, contractive_ae"),
    ("model=ae,vae", "aecli: model=ae,vae: several values are a sweep, which needs -m"),
    ("+model._partial_=true", "aecli: +model._partial_=true: is no setting"),
    ("model._target_=os.system", "aecli: model._target_=os.system: is no setting"),
    ("dataset.source=null", "aecli: dataset.source=null: follows from other settings; choose"),
    ("dataset.shape=3", "aecli: dataset.shape=3: follows from other settings; choose dataset"),
    (
        "sparsity=kl sparsity.units=7",
        "aecli: sparsity.units=7: follows from other settings; se",
    ),
    ("model.network=null", "aecli: model.network=null: follows from other settings; choose"),
    ("-m sweeper=basic,optuna", "aecli: sweeper=basic,optuna: must be one value for the whole"),
    ("-m seed=range(0,0)", "aecli: seed=range(0,0): is an empty range"),
    ("-m seed=range(0,1e9)", "aecli: seed=range(0,1e9): makes more than 100,000 runs"),
    ("-m seed=range(0,1000) model.beta=range(0,1000)", "makes more than 100,000 runs"),
    ("trainer.logger=false", "aecli: trainer.logger: no such setting"),
    ("+trainer.logger=false", "aecli: trainer.logger=false: cannot be set: aecli sets it"),
    ("+trainer.strategy=ddp_spawn", "aecli: trainer.strategy=ddp_spawn: must be one of auto"),
    ("trainer.devices=2", "aecli: trainer.devices=2: several need trainer=ddp"),
    (
        "model.code_dim=2147483647",
        "aecli: model.code_dim=2147483647, network.hidden=[400]: the",
    ),
    ("network.hidden=[2147483647,2147483647]", "network.hidden=[2147483647, 2147483647]"),
    ("model.samples=2000000000", "model.samples=2000000000"),
    ("optimizer.eps=0", "optimizer.eps=0 divides by 0"),
    ("eval.batch_size=3", "aecli: eval.batch_size=3: goes with an experiment=…"),
    ("sweeper.trials=3", "aecli: sweeper.trials=3: goes with sweeper=optuna"),
    # Sweeps without a job, or with the same job twice.
    ("-m 'seed=glob(*)'", "aecli: seed=glob(*): glob(…) chooses options, as in model=glob(*)"),
    (
        "-m 'model=glob(zzz*)'",
        "aecli: model=glob(zzz*): matches none of ae, batch_topk_sae, contractive_ae",
    ),
    ("-m 'seed=choice()'", "aecli: seed=choice(): not understood; several values are typed as"),
    ("-m 'seed=range(nan,1)'", "aecli: seed=range(nan,1): a range is typed as range(FROM,TO,"),
    ("-m 'model.beta=interval(0,1)'", "an interval is searched by sweeper=optuna; a sweep over"),
    ("-m sweeper=optuna 'seed=interval(1,0)'", "must go from one finite number up to another"),
    ("-m sweeper=optuna 'seed=tag(log,interval(0,1))'", "an interval must start above 0"),
    ("-m 'seed=tag(log,choice(1,2))'", "seed=tag(log,choice(1,2)): has no use for tag(log, …)"),
    ("-m seed=1,2,1", "aecli: seed=1,2,1: 1 stands there twice"),
    ("-m model.beta=1,1.0", "aecli: model.beta=1,1.0: 1.0 stands there twice"),
    ("-m model=vae,vae", "aecli: model=vae,vae: vae stands there twice"),
    ("-m hydra.job.name=a,b", "aecli: hydra.job.name=a,b: must be one value for the whole sweep"),
    # A key, its prefix, its place.
    ("model=vae model=ae", "aecli: model=vae model=ae: model is typed twice; type it once"),
    ("+seed=1 seed=2", "aecli: +seed=1 seed=2: seed is typed twice"),
    ("'trainer.max_epochs = 3'", "no blanks around a key; type trainer.max_epochs=3"),
    ("a..b=3", "aecli: a..b=3: must be SETTING=VALUE, such as model=vae"),
    ("seed=1,,2", "aecli: seed=1,,2: not understood; a value is missing beside a comma"),
    ("+model.beta=3", "aecli: +model.beta=3: is a setting already; leave out the +"),
    ("+noise=masking", "aecli: +noise=masking: a group is chosen without the +, as in noise=ma"),
    ("+early_stopping.foo=3", "aecli: early_stopping.foo: no such setting; must be one of pat"),
    ("+model.foo=3", "aecli: model.foo=3: no such setting (model has the settings code_dim, beta"),
    ("network=conv network.hidden=[8]", "with network=conv; network=linear or mlp has it)"),
    ("model=ae model.beta=4", "code_dim with model=ae; model=iwae or vae has it)"),
    ("network.kernel_size=0", "aecli: network.kernel_size: no such setting (network has the set"),
    ("seed.foo=3", "aecli: seed.foo=3: no such setting; seed has one value"),
    ("eval=standard", "aecli: eval=standard: an experiment=… chooses it"),
    ("model=vae.yaml", "aecli: model=vae.yaml: must be one of ae, batch_topk_sae, contractive_ae"),
    (
        "model=../model/vae",
        "aecli: model=../model/vae: must be one of ae, batch_topk_sae, contractive_ae",
    ),
    ("model=/vae", "aecli: model=/vae: must be one of ae, batch_topk_sae, contractive_ae"),
    ("trainer=vae", "aecli: trainer=vae: must be one of auto, cpu, ddp"),
    # Hydra's own.
    ("hydra=null", "aecli: hydra=null: is no setting; Hydra's are typed as hydra.NAME=VALUE"),
    ("hydra/sweeper=optuna", "aecli: hydra/sweeper=optuna: is typed as sweeper=optuna"),
    ("hydra/job_logging=nope", "aecli: hydra/job_logging=nope: must be one of console"),
    ("hydra.foo=3", "aecli: hydra.foo: no such setting (hydra has the settings run, sweep"),
    ("hydra.job.num=3", "aecli: hydra.job.num=3: cannot be set; it follows from the rest"),
    ("hydra.searchpath=[nowhere]", "hydra.searchpath=[nowhere]: must be a list of folders"),
    ("hydra.run.dir=/proc/x", "aecli: hydra.run.dir: /proc/x: "),
    ("-m hydra.sweep.subdir=../x seed=0,1", "must be a name in the sweep's folder for each"),
    ("launcher=joblib", "aecli: launcher=joblib: has an effect in a sweep only; add -m"),
    ("-m launcher=joblib hydra.launcher.n_jobs=0", "hydra.launcher.n_jobs=0: must be a whole"),
    (
        "-m sweeper=optuna launcher=joblib sweeper.at_once=9999 model.code_dim=2,3",
        "sweeper.at_once=9999: there are ",
    ),
    ("-m launcher=joblib hydra.launcher.n_jobs=9999", "launcher.n_jobs=9999: there are "),
    (
        "-m launcher=joblib 'hydra.launcher={n_jobs:0}'",
        "hydra.launcher={n_jobs:0}: must be a whole",
    ),
    ("-m launcher=joblib hydra.launcher.batch_size=few", "batch_size=few: must be a whole number"),
    ("-m launcher=joblib hydra.launcher.pre_dispatch=0", "pre_dispatch=0: must be a whole number"),
    ("-m launcher=joblib hydra.launcher.timeout=-1", "launcher.timeout=-1: must be seconds, a num"),
    ("-m launcher=joblib hydra.launcher.timeout=nan", "launcher.timeout=nan: must be seconds, a"),
    ("-m launcher=joblib hydra.launcher.verbose=a", "hydra.launcher.verbose=a: must be a whole"),
    ("-m launcher=joblib hydra.launcher.require=sharedmem", "require=sharedmem: has no effect"),
    ("launcher.n_jobs=2", "those of a launcher are typed as hydra.launcher.n_jobs=VALUE"),
    ("--config-name eval", "aecli: --config-name: no such flag; the first word is the command"),
    ("--package model", "aecli: --package: goes with --cfg job"),
    # The schema's types, in words.
    ("seed=1e30", "aecli: seed=1e30: must be a whole number"),
    ("seed='${oc.env:HOME}'", "must be a whole number"),
    ("seed='${seed}'", "aecli: seed=${seed}: it refers to itself"),
    ("output_dir=[a]", "aecli: output_dir=[a]: must be text"),
    ("output_dir='${oc.env:NOPE}'", "the environment variable NOPE is not set"),
    ("early_stopping=5", "has the settings patience, min_delta; type early_stopping.patience="),
    ("early_stopping={patience:a}", "early_stopping={patience:a}: early_stopping.patience must"),
    ("early_stopping={}", "aecli: early_stopping={}: is empty, so that it would set nothing"),
    ("-m sweeper=optuna sweeper.space={}", "aecli: sweeper.space={}: is empty, so that it would"),
    ("network.hidden={a:1}", "aecli: network.hidden={a:1}: must be a list, such as [1,2]"),
    ("hydra.mode=foo", "aecli: hydra.mode=foo: must be one of RUN, MULTIRUN"),
    ("-m sweeper=optuna sweeper.prune=3", "aecli: sweeper.prune=3: must be true or false"),
    # The evaluation of an experiment, before its training.
    ("experiment=hinton2006/pca eval.pictures=3", "aecli: eval.pictures=3: must be true or false"),
    (
        "experiment=hinton2006/pca eval.noise_levels=[2]",
        "aecli: eval.noise_levels=[2.0]: must be a",
    ),
    ("experiment=hinton2006/pca eval.finetune={}", "aecli: eval.finetune={}: is empty, so that"),
    (
        "experiment=hinton2006/pca eval.finetune.lr=0.2",
        "aecli: eval.finetune.lr=0.2: goes with another setting; add eval.protocol=finetune",
    ),
    # Lists, as they were typed.
    ("dataset.classes=[[1]]", "dataset.classes=[[1]]: must be a list, such as [3,8]; each value"),
    ("dataset.classes=[3,3]", "aecli: dataset.classes=[3,3]: 3 stands there twice"),
    ("dataset.classes=[]", "aecli: dataset.classes=[]: must be a list of at least one value"),
    ("trainer.devices=[]", "aecli: trainer.devices=[]: must be a list of at least one value"),
    ("optimizer.betas=[a,0.9]", "aecli: optimizer.betas=[a,0.9]: must be a list, such as [0.9"),
    ("\"model.code_dim='3'\"", "aecli: model.code_dim='3': must be a whole number"),
    # A share of the batches that is less than one.
    ("trainer.limit_train_batches=0.000001", "must be at least 0.5, one of the 2 batches of an"),
]


@pytest.mark.parametrize(("line", "told"), SLIPS)
def test_a_slip_gets_one_line(line, told, tmp_path):
    words = () if "model" in line or "hidden" in line else ("trainer=debug", *TINY[1:])
    words = tuple(w for w in words if w.partition("=")[0] not in line)
    done = aecli("train", *words, *shlex.split(line), cwd=tmp_path)
    assert is_one_line(done), done.stderr
    assert told in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "encode out=x.csv overwrite=3",
        "data out=x.png overwrite=yes",
        "score out=x.csv per_feature=1",
        "sample overwrite=on",
        "explore out=x.html grids=2",
    ],
)
def test_nothing_but_true_and_false_is_true_or_false(line, tmp_path):
    done = aecli(*line.split(), cwd=tmp_path)
    assert done.stderr == f"aecli: {line.split()[-1]}: must be true or false\n"


def test_an_experiment_of_ones_own_needs_an_evaluation_for_its_result(tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    published = "published: {metric: mse, value: 1.0, goal: null, source: me, evidence: read}"
    file = tmp_path / "mine" / "experiment" / "own.yaml"
    file.write_text(f"# @package _global_\n{published}\n")
    done = aecli("train", *TINY, "--config-dir", "mine", "experiment=own", cwd=tmp_path)
    assert is_one_line(done)
    assert done.stderr.startswith("aecli: experiment=own: has a published result and no eval")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said_in_one_line(tmp_path):
    done = aecli("train", "trainer=gpu", cwd=tmp_path)
    assert is_one_line(done)
    assert "aecli: trainer.accelerator=gpu: no GPU is here" in done.stderr


def test_a_pattern_is_the_options_that_it_matches(tmp_path):
    done = aecli("train", "-m", *TINY, "model=glob([v*,iw*])", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.rglob("metrics.json"))) == 2


KEYS = (
    *("seed", "pictures_every", "output_dir", "objective", "resume", "early_stopping"),
    *("early_stopping.patience", "model", "noise", "trainer", "dataset", "eval", "published"),
    *("model.beta", "model.code_dim", "optimizer.lr", "optimizer.betas", "network.hidden"),
    *("dataset.classes", "dataset.root", "trainer.devices", "trainer.max_epochs", "launcher"),
    *("sweeper", "sweeper.trials", "sweeper.space", "hydra", "hydra/launcher", "hydra/sweeper"),
    *("hydra.launcher.n_jobs", "hydra.sweep.subdir", "hydra.mode", "hydra.job.num", "hydra.foo"),
    *("foo", "foo.bar", "model.foo", "noise.amount", "sparsity.k", "seed.foo", "Model", "a..b"),
    *("model/vae", "model@x", "_target_", "model.network", "größe"),
)
VALUES = (
    *("", "3", "-1", "1e30", "0x10", "99999999999999999999", "1e-400", "null", "true", "abc"),
    *("'3'", "'a b'", "a b", "ünï", "😀", "$", "[]", "[a]", "[[1]]", "[1,", "[1,1]", "{}", "{a:1}"),
    *("1,2", "1,1", "1,,2", "vae,vae", "vae.yaml", "none", "choice()", "choice(1,1)", "sort(2,2)"),
    *("range(2)", "range(0,0)", "range(nan,1)", "range(0,1e9)", "glob(zzz*)", "glob(v*)"),
    *("interval(0,1)", "tag(log,interval(1,2))", "tag(a,choice(1,2))", "shuffle(1,2)", "int(a)"),
    *("${seed}", "${no}", "${model}", "${oc.env:NOPE}", "${oc.nope:1}", "${", "${now:%Y}"),
)


def lines(count: int, seed: int) -> list[list[str]]:
    """Return lines of keys and values of all kinds, with all prefixes, half of them sweeps."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        words = [
            draw.choice(("", "", "", "+", "++", "~"))
            + draw.choice(KEYS)
            + draw.choice(("=", "=", "=", "=", " = ", "= "))
            + draw.choice(VALUES)
            for _ in range(draw.choice((1, 1, 2)))
        ]
        made.append([*draw.choice(([], ["-m"])), *words])
    return made


@pytest.mark.parametrize("number", range(8))
def test_any_line_is_a_run_or_one_line(number, tmp_path):
    check(lines(5, number), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(100, 110))
def test_any_of_many_lines_is_a_run_or_one_line(number, tmp_path):
    check(lines(50, number), tmp_path)


def check(several: list[list[str]], folder: Path) -> None:
    for number, line in enumerate(several):
        typed = {word.lstrip("+~").partition("=")[0].strip() for word in line}
        words = [word for word in TINY if word.partition("=")[0] not in typed]
        words = [word for word in words if "network" not in word or not typed & {"model"}]
        (cwd := folder / str(number)).mkdir()
        done = aecli("train", *words, *line, cwd=cwd)
        told = (line, done.stdout, done.stderr)
        if done.returncode == 0:
            assert done.stderr == "", told
            assert list(cwd.rglob("metrics.json")), told  # not in silence, and not nothing
        elif done.stderr.startswith("aecli: job "):  # refused when the sweep had begun
            assert not FOREIGN.search(done.stderr), told
        else:
            assert is_one_line(done), told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3, "x=3: must be a list, such as [1]"),
        ([], "x=[]: must be a list of at least one value, such as [1]"),
        ([1, [2]], "x=[1,[2]]: must be a list, such as [1]; each value must be a whole number of"),
        ([1, None], "x=[1,null]: must be a list, such as [1]; each value must be a whole number"),
        ([1, 2, 1], "x=[1,2,1]: 1 stands there twice"),
        ("[1]", "x='[1]': must be a list, such as [1]"),
    ],
)
def test_a_list_is_refused_as_a_whole(value, told):
    with pytest.raises(SettingError) as error:
        check_list("x", value, lambda key, item: check_int(key, item, 0), "[1]", distinct=True)
    assert str(error.value).startswith(told)


@pytest.mark.parametrize("word", ["dataset.decimal=,", "dataset.separator=;"])
def test_a_mark_needs_no_quotes_within_quotes(word):
    assert checked("train", ["dataset=table", word])[1] == word.replace("=", "='") + "'"
