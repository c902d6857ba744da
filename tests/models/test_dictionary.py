"""Dictionaries: their losses and gradients beside plain autograd on dense codes."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scipy.optimize import minimize

from aecli.build import build
from aecli.data import Batch
from aecli.dictionaries.auxiliary import geometric_median
from aecli.dictionaries.products import Encoder
from aecli.dictionaries.topk import START_AT, threshold_of
from aecli.errors import SettingError
from aecli.models.dictionary_sums import Fit
from tests.conftest import configure

D, N, B, K = 12, 64, 40, 5
DICTIONARIES = ("topk", "batch_topk", "matryoshka", "jumprelu", "gated", "l1")


def dictionary(variant, *words, features=D, latents=N):
    """Return a small dictionary with every parameter away from its start."""
    config, _ = configure(f"model={variant}_sae", f"model.code_dim={latents}", *words)
    config.dataset.shape = [features]
    return moved(config)


def moved(config):
    """Return the model of a configuration with every parameter away from its start."""
    torch.manual_seed(0)
    model = build(config, "model")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        if model.sparsity.has_unit_rows:
            model.W_dec.copy_(F.normalize(model.W_dec, dim=1))
    return model.train()


def dense(model, x):
    """Return the pre-activations and the atoms of a plain implementation, with gradients."""
    a = (x - model.b_dec) @ model.W_enc.T + model.b_enc
    return a, F.normalize(model.W_dec, dim=1) if model.sparsity.has_unit_rows else model.W_dec


def topk_code(a, k):
    kept = a.topk(k, dim=1).indices
    return torch.zeros_like(a).scatter(1, kept, a.gather(1, kept).relu())


def batch_code(a, count):
    kept = a.flatten().topk(count).indices
    return torch.zeros_like(a).flatten().scatter(0, kept, a.flatten()[kept].relu()).view_as(a)


def squares(error):
    return error.square().sum(dim=1).mean()


def gradients(loss, model):
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return dict(zip(named, grads, strict=True))


def agree(model, loss, expected):
    """Require the same loss, and the same gradient of each parameter, none of them 0."""
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    found, wanted = gradients(loss, model), gradients(expected, model)
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-5, msg=name)
        assert grad.abs().sum() > 0, name


@pytest.fixture
def x():
    return torch.randn(B, D, generator=torch.Generator().manual_seed(1)) + 0.5


def openai_loss(model, x, dead, k, k_aux, variance, weight=1 / 32):
    """Return the loss of openai/sparse_autoencoder times the variance, on dense codes."""
    a, atoms = dense(model, x)
    output = topk_code(a, k) @ atoms + model.b_dec
    error = (x - output).detach()
    mse = (x - output).square().mean() / (variance / x.shape[1])
    if not len(dead):
        return variance * mse
    alive = torch.ones(len(atoms), dtype=torch.bool)
    alive[dead] = False
    code = topk_code(a.masked_fill(alive, -torch.inf), min(k_aux, len(dead)))
    aux = (code @ atoms - error).square().mean() / (error - error.mean(0)).square().mean()
    return variance * (mse + weight * aux)


@pytest.mark.parametrize("dead", [0, 3, 40])
def test_the_loss_of_topk_and_its_gradients_are_those_of_openai(x, dead):
    model = dictionary("topk", f"sparsity.k={K}", "model.aux_k=6")
    model.variance.fill_(7.0)
    latents = torch.randperm(N)[:dead]
    model.rows_since_active[latents] = 10**7
    agree(model, model.terms(x).loss, openai_loss(model, x, latents, K, 6, variance=7.0))


def test_the_auxiliary_loss_reaches_the_encoder_of_the_dead_latents(x):
    model = dictionary("topk", "sparsity.k=20", "model.aux_k=6")
    dead = torch.arange(20)
    with torch.no_grad():
        model.W_enc[dead] *= 0.01  # above 0 on some rows, but not among the k largest
        model.b_enc[dead] = 0
        model.b_enc[20:] = 0.5
    plain = gradients(model.terms(x).loss, model)["W_enc"]
    assert plain[dead].abs().sum() == 0
    model.rows_since_active[dead] = 10**7
    revived = gradients(model.terms(x).loss, model)["W_enc"]
    assert revived[dead].abs().sum() > 0
    torch.testing.assert_close(revived[20:], plain[20:])


def test_batch_topk_is_a_topk_over_the_batch(x):
    model = dictionary("batch_topk", f"sparsity.k={K}")
    a, atoms = dense(model, x)
    expected = squares(x - batch_code(a, B * K) @ atoms - model.b_dec)
    terms = model.terms(x)
    agree(model, terms.loss, expected)
    assert (terms.code.to_dense() > 0).sum() == B * K
    assert (terms.code.to_dense() > 0).sum(dim=1).unique().numel() > 1


def test_matryoshka_adds_the_errors_of_its_prefixes(x):
    model = dictionary("matryoshka", f"sparsity.k={K}", "sparsity.shares=[0.25,0.5,1]")
    a, atoms = dense(model, x)
    code = batch_code(a, B * K)
    outputs = [code[:, :m] @ atoms[:m] + model.b_dec for m in (16, 32, 64)]
    agree(model, model.terms(x).loss, sum(squares(x - output) for output in outputs))
    torch.testing.assert_close(model.terms(x).nll, squares(x - outputs[-1]))
    torch.testing.assert_close(model.reconstruct(x), outputs[-1])


class Rectangle(torch.autograd.Function):
    """(z, H) of a and θ, with the gradients of Rajamanoharan et al., on dense tensors."""

    @staticmethod
    def forward(ctx, a, threshold, width):
        ctx.save_for_backward(a, threshold)
        ctx.width = width
        active = (a > threshold).to(a)
        return a * active, active

    @staticmethod
    def backward(ctx, of_code, of_count):
        a, threshold = ctx.saved_tensors
        inside = (((a - threshold) / ctx.width).abs() < 0.5).to(a)
        of_threshold = -inside / ctx.width * (threshold * of_code + of_count)
        return of_code * (a > threshold), of_threshold.sum(dim=0), None


@pytest.mark.parametrize("kind", ["jumprelu", "jumprelu_step"])
def test_jumprelu_has_the_gradients_of_its_rectangle(x, kind):
    words = (f"sparsity={kind}", "sparsity.weight=0.3", "sparsity.bandwidth=0.4")
    model = dictionary("jumprelu", *words)
    model.variance.fill_(3.0)
    with torch.no_grad():
        model.sparsity.unit.fill_(3.0**0.5)
        model.sparsity.threshold_share.uniform_(0.1, 0.6)
    a, atoms = dense(model, x)
    width = 0.4 * 3.0**0.5
    code, active = Rectangle.apply(a, model.sparsity.threshold_share * 3.0**0.5, width)
    l0 = active.sum(dim=1).mean()
    cost = (l0 / 32 - 1).square() if kind == "jumprelu" else l0
    error = squares(x - code @ atoms - model.b_dec)
    agree(model, model.terms(x).loss, error + 0.3 * 3.0 * cost)
    torch.testing.assert_close(model.terms(x).code.to_dense(), code)


def test_the_auxiliary_loss_of_jumprelu_is_that_of_its_own_pre_activations(x):
    aux = ("model.aux_weight=0.5", "model.aux_k=6", "model.dead_after=1000")
    model = dictionary("jumprelu", "sparsity.weight=0", *aux)
    model.variance.fill_(3.0)
    with torch.no_grad():
        model.sparsity.unit.fill_(3.0**0.5)
        model.sparsity.threshold_share.uniform_(0.1, 0.6)
    model.rows_since_active[:40] = 10**7
    a, atoms = dense(model, x)
    code = a * (a > model.sparsity.threshold_share * 3.0**0.5)
    error = x - code @ atoms - model.b_dec
    dead = topk_code(a.masked_fill(torch.arange(N) >= 40, -torch.inf), 6) @ atoms
    spread = (error - error.mean(0)).square().mean()
    penalty = 0.5 * 3.0 * (dead - error).square().mean() / spread
    terms = model.terms(x)
    torch.testing.assert_close(terms.penalty, penalty)
    torch.testing.assert_close(terms.nll, squares(error))


@pytest.mark.parametrize("variant", ["batch_topk", "matryoshka"])
def test_a_batch_of_which_nothing_is_active_moves_no_threshold(variant):
    model = dictionary(variant)
    model.sparsity.threshold.fill_(0.5)
    with torch.no_grad():
        model.b_enc.fill_(-1000)
    model.sparsity.observe(model.coded(torch.zeros(B, D)).code)
    assert model.sparsity.threshold == 0.5


def test_gated_has_the_loss_of_its_paper(x):
    model = dictionary("gated", "sparsity.weight=0.7")
    gate, atoms = dense(model, x)
    part = model.sparsity
    size = (part.r_mag.exp() * (gate - model.b_enc) + part.b_mag).relu()
    output = ((gate > 0) * size) @ atoms + model.b_dec
    frozen = gate.relu() @ model.W_dec.detach() + model.b_dec.detach()
    expected = squares(x - output) + 0.7 * gate.relu().sum(dim=1).mean() + squares(x - frozen)
    agree(model, model.terms(x).loss, expected)


def test_norm_l1_pays_for_activation_times_norm(x):
    model = dictionary("l1", "sparsity.weight=0.7")
    a, atoms = dense(model, x)
    cost = (a.relu() * atoms.norm(dim=1)).sum(dim=1).mean()
    agree(model, model.terms(x).loss, squares(x - a.relu() @ atoms - model.b_dec) + 0.7 * cost)


def test_batch_topk_of_one_row_is_topk(x):
    one, other = dictionary("topk"), dictionary("batch_topk")
    for row in x.split(1):
        agree(one, one.terms(row).loss, openai_loss(one, row, [], 32, 1, variance=1.0))
        torch.testing.assert_close(other.terms(row).code.to_dense(), one.terms(row).code.to_dense())


def test_matryoshka_of_one_level_is_batch_topk(x):
    one, other = dictionary("batch_topk"), dictionary("matryoshka", "sparsity.shares=[1]")
    torch.testing.assert_close(other.terms(x).loss, one.terms(x).loss)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("variant", DICTIONARIES)
def test_a_batch_in_parts_has_the_loss_and_the_gradients_of_the_whole(
    x, variant, mixed, monkeypatch
):
    model = dictionary(variant)
    model.aux_weight, model.aux_k = 0.5, 6  # of any model; not all have it as a setting
    model.variance.fill_(3.0)
    model.rows_since_active[::3] = 10**7
    found = []
    for size in (1000, 7, 1):
        monkeypatch.setattr("aecli.models.sparse_coder.PART", size)
        monkeypatch.setattr("aecli.dictionaries.products.PART", size)
        fit = Fit(model.b_dec, N)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            coded = model.coded(x, 2 * x + 1, fit)
        rows = coded.places.code(coded.code).to_dense()
        named = coded.terms._asdict() | {"loss": coded.terms.loss.detach(), "code": rows}
        sums = fit.state() | {"sums": fit.state()["sums"].float()}
        found.append((named | sums, gradients(coded.terms.loss, model)))
    for values, grads in found[1:]:
        torch.testing.assert_close(values, found[0][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(grads, found[0][1], rtol=1e-4, atol=1e-5)
    assert all(grad.abs().sum() > 0 for grad in found[0][1].values())


@pytest.mark.parametrize("variant", DICTIONARIES)
def test_the_loss_is_the_same_without_gradients(x, variant):
    model = dictionary(variant)
    with torch.no_grad():
        torch.testing.assert_close(model.terms(x).loss, model.terms(x).loss.detach())
    evaluated = model.eval().terms(x)
    assert evaluated.loss.requires_grad
    if variant not in ("batch_topk", "matryoshka"):
        torch.testing.assert_close(evaluated.loss, model.train().terms(x).loss)


def test_a_loss_that_is_scaled_has_scaled_gradients_once(x):
    model = dictionary("topk")
    plain = gradients(model.terms(x).loss, model)
    halved = gradients(0.5 * model.terms(x).loss, model)
    for name, grad in plain.items():
        torch.testing.assert_close(2 * halved[name], grad)
    loss = model.terms(x).loss
    gradients(loss, model)
    with pytest.raises(RuntimeError, match="only once"):
        gradients(loss, model)


def test_gradients_take_the_memory_of_the_step_before_once_it_is_free(x):
    model = dictionary("topk")
    model.steady = True
    optimizer = model.configure_optimizers()
    batch = Batch(x, x, torch.zeros(B))
    plain = gradients(model.terms(x).loss, model)
    places = set()
    for _ in range(2):
        loss = model.training_step(batch, 0)
        optimizer.zero_grad()  # after the loss, as Lightning does
        loss.backward()
        places.add((model.W_enc.grad.data_ptr(), model.W_dec.grad.data_ptr()))
        assert places == {tuple(part.data_ptr() for part in model._memory)}  # no copy
        optimizer.step()
    model = dictionary("topk")
    model.steady = True
    for _ in range(2):  # accumulated: the second may not be written over the first
        model.training_step(batch, 0).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * plain[name], msg=name)


@pytest.mark.parametrize("variant", DICTIONARIES)
def test_a_code_decodes_to_the_reconstruction(x, variant):
    model = dictionary(variant).eval().requires_grad_(False)
    code = model.encode(x)
    assert code.shape == (B, N)
    torch.testing.assert_close(model.decode(code).mean, model.reconstruct(x))
    torch.testing.assert_close(model.terms(x).code.to_dense(), code)
    if variant in ("batch_topk", "matryoshka"):
        model.sparsity.threshold.fill_(0.7)
        code = model.encode(x)
    torch.testing.assert_close(model.sparsity.dense(dense(model, x)[0], model.b_enc), code)
    parts = torch.cat([model.encode(part) for part in x.split(7)])
    torch.testing.assert_close(parts, code)


def test_the_geometric_median_has_the_least_mean_distance():
    generator = torch.Generator().manual_seed(0)
    far = torch.randn(400, 3, generator=generator).exp() + torch.arange(3)
    skewed = torch.tensor([[1.0, 1, 0]]).expand(6, 3)
    at_the_mean = torch.cat([skewed, -6 * skewed[:1], torch.zeros(1, 3)])
    a_row = torch.cat([far[:40], far[:1].expand(60, 3)])  # the median is the row that is most
    for rows in (far, at_the_mean, a_row, far[:1].expand(5, 3), far.half().float() * 1e3):
        median = geometric_median(rows)

        def mean_distance(point, rows=rows):
            return (rows.double() - point.double()).norm(dim=1).mean().item()

        found = minimize(lambda at: mean_distance(torch.from_numpy(at)), median, method="Powell")
        assert mean_distance(median) <= found.fun * (1 + 1e-4) + 1e-9


@pytest.mark.parametrize("variant", DICTIONARIES)
def test_the_start_is_at_the_data(variant):
    rows = torch.randn(500, D) * 3 + torch.arange(D)
    rows[0] = 1e4  # moves a mean, not a median
    words = ("sparsity.start_l0=10",) if variant in ("gated", "l1") else ("sparsity.k=10",)
    config, _ = configure(f"model={variant}_sae", f"model.code_dim={N}", *words)
    config.dataset.shape = [D]
    model = build(config, "model")
    model.start_at(rows)
    assert (model.b_dec - torch.arange(D)).abs().max() < 1
    torch.testing.assert_close(model.W_dec.norm(dim=1), torch.ones(N))
    cosine = F.cosine_similarity(model.W_dec, model.W_enc)
    torch.testing.assert_close(cosine, torch.ones(N))
    if variant != "topk":
        l0 = (model.eval().encode(rows) != 0).sum(dim=1).float().mean()
        assert l0 == pytest.approx(model.sparsity.start_l0, abs=3)


@pytest.mark.parametrize("variant", DICTIONARIES)
def test_rows_are_unit_after_a_step_and_dead_latents_are_counted_in_rows(x, variant):
    model = dictionary(variant, "optimizer.lr=0.1")
    model.on_train_start = None
    model.steady, model._steps = True, 1.0
    optimizer = model.optimization.optimizer(model.parameters())
    batch = Batch(x, x, torch.zeros(B))
    active = torch.zeros(N, dtype=torch.bool)
    for number in (1, 2):
        optimizer.zero_grad()
        code = model.terms(x).code.to_dense()
        model.training_step(batch, 0).backward()
        optimizer.step()
        model.on_train_batch_end(None, batch, 0)
        active = (code != 0).any(dim=0)
        assert (model.rows_since_active[active] == 0).all()
        assert (model.rows_since_active[~active] % B == 0).all()
        assert model.rows_since_active.max() <= number * B
    assert "rows_since_active" in model.state_dict()
    norms = model.W_dec.norm(dim=1)
    if variant == "l1":
        assert (norms - 1).abs().max() > 0.01
    else:
        torch.testing.assert_close(norms, torch.ones(N))


def test_the_threshold_at_the_start_is_that_of_rows_from_all_over():
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(4 * START_AT, 16, generator=draw)
    rows[:START_AT] /= 5  # the first file's
    weight = torch.randn(64, 16, generator=draw)
    encoder = Encoder(rows, weight, torch.zeros(64))
    threshold = threshold_of(8, encoder)
    assert ((rows @ weight.T) > threshold).sum(dim=1).float().mean() == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("sparsity.k=65",), r"sparsity\.k=65: must be a whole number from 1 to 64"),
        (("network=mlp",), "it takes only network=none"),
        (("noise=masking",), "it takes only noise=none"),
        (("likelihood=bernoulli",), "it takes only likelihood=mse"),
        (("likelihood.weight=2",), "likelihood.weight=1 and likelihood.output=linear"),
        (("sparsity=topk",), "is no sparsity"),
        (("optimizer=lbfgs",), "optimizer=lbfgs: computes a step several times"),
        (("model.aux_weight=0", "model.aux_k=3"), r"model\.aux_k=3: goes with"),
        (("model.aux_weight=0", "model.dead_after=3"), r"model\.dead_after=3: goes with"),
        (("sparsity=matryoshka", "sparsity.shares=[0.5,0.2,1]"), r"sparsity\.shares=\[0\.5"),
        (("sparsity=matryoshka", "sparsity.shares=[0.5]"), r"rise to 1"),
    ],
)
def test_what_a_dictionary_cannot_do_is_refused(words, told):
    with pytest.raises(SettingError, match=told):
        dictionary("topk", *words)


def test_other_models_refuse_a_dictionarys_part_and_no_network():
    with pytest.raises(SettingError, match="is no sparsity"):
        build(configure("model=ae", "sparsity=row_topk", "sparsity.k=3")[0], "model")
    with pytest.raises(SettingError, match="network=none"):
        build(configure("model=ae", "network=none")[0], "model")
