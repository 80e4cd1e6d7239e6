"""Bands: a record's place follows from its own probability and id, and the likeliest to leave cost the least."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.naive_bayes import GaussianNB

from unlearnkit import BandedPartition, HashPartition, SISAClassifier, load
from unlearnkit.bands import Bands, checked_probability, one_for_each, prior_of
from unlearnkit.errors import CapabilityError, DataError, ParameterError, StoreInUseError, UnknownRecordError
from unlearnkit.ids import encode_as

COUNTRIES = {3e-6: 0.7717, 6e-6: 0.1282, 3e-5: 0.1001}
PRIOR = {0.01: 0.6, 0.05: 0.3, 0.4: 0.1}
SECRET = b"the secret of these tests"
PROBABILITIES = np.array(sorted(PRIOR))


def bound(prior=PRIOR, n_shards=4, n_slices=3):
    return BandedPartition(prior, SECRET).bind(n_shards, n_slices, 0)


def people(n, prior=PRIOR, seed=0):
    """Probabilities of n people, as the prior says."""
    shares = np.array([prior[p] for p in sorted(prior)])
    return np.random.default_rng(seed).choice(sorted(prior), size=n, p=shares / shares.sum())


# -- the function ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 99), min_size=1, max_size=30), st.integers(0, 29), st.integers(0, 2**32 - 1))
def test_a_place_follows_from_one_record_alone(ids, i, seed):
    partition, of_id = bound(), people(100, seed=seed)
    items, probability = encode_as(ids, "int"), of_id[ids]
    i %= len(ids)
    together, alone = partition.place(items, probability), partition.place([items[i]], probability[[i]])
    for name in ("shard", "slice", "rid", "u"):
        assert (getattr(together, name)[i] == getattr(alone, name)[0]).all()


def test_the_probability_decides_and_the_secret_too():
    items = encode_as(list(range(300)), "int")
    low, high = (bound().place(items, np.full(300, p)) for p in (0.01, 0.4))
    assert set(low.shard.tolist()).isdisjoint({3})
    assert set(high.shard.tolist()).isdisjoint({0})
    # Ids are found again whatever their probability.
    assert (low.rid == high.rid).all()
    other = BandedPartition(PRIOR, b"quite another secret").bind(4, 3, 0).place(items, np.full(300, 0.01))
    assert (low.slice != other.slice).any()


@pytest.mark.parametrize(("prior", "n_shards"), [(PRIOR, 4), (COUNTRIES, 5), ({0.2: 1.0}, 4), (PRIOR, 1)])
def test_shards_expect_equally_many_erasures(prior, n_shards):
    n = 60_000
    probability = people(n, prior)
    place = bound(prior, n_shards).place(encode_as(list(range(n)), "int"), probability)
    expected = np.bincount(place.shard, weights=probability, minlength=n_shards)
    assert np.allclose(expected / expected.sum(), 1 / n_shards, atol=0.02)
    sizes = np.bincount(place.shard, minlength=n_shards)
    # Those who hardly ever ask share the large ones.
    assert (np.diff(sizes) <= 0.03 * n / n_shards).all()


def test_slices_of_a_shard_have_equally_many_people_and_the_likeliest_come_last():
    n = 60_000
    probability = people(n)
    place = bound().place(encode_as(list(range(n)), "int"), probability)
    for shard in range(4):
        own = place.shard == shard
        sizes = np.bincount(place.slice[own], minlength=3)
        # Chi-square with two degrees of freedom: beyond 13.8 once in a thousand, and the shares are of a sample too.
        assert ((sizes - own.sum() / 3) ** 2 / (own.sum() / 3)).sum() < 40
        highest = [probability[own & (place.slice == r)].max() for r in range(3)]
        lowest = [probability[own & (place.slice == r)].min() for r in range(3)]
        assert all(a <= b for a, b in zip(highest, lowest[1:], strict=False))


def test_shards_of_people_are_alike_and_their_likeliest_come_last():
    n = 60_000
    probability, items = people(n), encode_as(list(range(n)), "int")
    partition = BandedPartition(PRIOR, SECRET, "people").bind(4, 3, 0)
    place = partition.place(items, probability)
    assert (place.shard == HashPartition(SECRET).bind(4, 3, 0).place(items).shard).all()
    assert (abs(np.histogram2d(place.shard, place.slice, bins=(4, 3))[0] - n / 12) < 0.05 * n / 12).all()
    highest = [probability[place.slice == r].max() for r in range(3)]
    lowest = [probability[place.slice == r].min() for r in range(3)]
    assert all(a <= b for a, b in zip(highest, lowest[1:], strict=False))
    # An id alone tells its shard.
    assert all(partition.search([items[i]])[1] == [place.shard[i]] for i in range(50))


def test_positions_in_a_band_are_uniform():
    bands = Bands.of(PRIOR)
    n = 40_000
    uniform = (np.arange(n) + 0.5) / n
    shard, _ = bands.cells(np.full(n, 0.05), uniform, 8, 2)
    # The band of .05 holds .015 of .061 expected erasures, from .006 on.
    edges = (np.arange(9) / 8 * 0.061).clip(0.006, 0.021)
    shares = np.diff(edges) / 0.015
    assert np.allclose(np.bincount(shard, minlength=8) / n, shares, atol=1e-3)


@pytest.mark.parametrize(("prior", "n_shards", "n"), [(PRIOR, 4, 20_000), (COUNTRIES, 5, 20_000), (PRIOR, 7, 9_999)])
def test_algorithm_1_on_the_sorted_population_comes_to_the_same_shards(prior, n_shards, n):
    """The paper fills a shard, in ascending order, until the expected erasures in it reach C: here all over S."""
    counts = np.round(n * np.array([prior[p] for p in sorted(prior)]) / sum(prior.values())).astype(int)
    probability = np.repeat(sorted(prior), counts)
    limit, filled, shard = probability.sum() / n_shards, 0.0, 0
    theirs = np.empty(len(probability), dtype=int)
    for i, p in enumerate(probability):
        if filled + p > limit * (1 + 1e-9) and shard < n_shards - 1:
            shard, filled = shard + 1, 0.0
        theirs[i] = shard
        filled += p
    # In a band people stand in the order of a hash: here of their place in the file.
    uniform = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    ours, _ = Bands.of(prior).cells(probability, uniform, n_shards, 3)
    assert (np.diff(ours) >= 0).all()
    # Whoever straddles a boundary may fall on either side, and what is left over adds up.
    assert (ours != theirs).sum() <= 2 * n_shards**2
    assert (abs(ours - theirs) <= 1).all()


def test_a_value_between_the_bands_belongs_to_the_next():
    bands, uniform = Bands.of(PRIOR), np.linspace(0, 0.999, 50)

    def cells(p):
        return np.column_stack(bands.cells(np.full(50, p), uniform, 4, 3)).tolist()

    assert cells(0.0) == cells(0.005) == cells(0.01) != cells(0.02) == cells(0.05)
    assert cells(0.06) == cells(0.4) == cells(1.0)


@given(st.dictionaries(st.floats(1e-9, 1), st.floats(1e-6, 1e6), min_size=1, max_size=12))
def test_bands_that_are_written_down_are_the_same(prior):
    bands = Bands.of(prior)
    assert Bands.of(dict(zip(bands.probabilities, bands.shares, strict=True))) == bands


def test_less_is_retrained_than_with_a_hash_alone():
    n = 20_000
    probability, items = people(n), encode_as(list(range(n)), "int")

    def retrained(partition, *given):
        place = partition.place(items, *given)
        sizes = np.bincount(place.shard, minlength=4)
        # From the slice of the record on, each step over all slices so far.
        share = np.array([1, 5 / 6, 3 / 6])[place.slice]
        return float((probability * sizes[place.shard] * share).sum())

    assert retrained(bound(), probability) < 0.9 * retrained(HashPartition(SECRET).bind(4, 3, 0))


# -- what is given ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prior", [{}, {0.0: 1}, {1.1: 1}, {0.1: 0}, {0.1: -1}, {0.1: float("inf")}, {"a": 1}, {0.1: None}, [0.1], 0.1]
)
def test_a_prior_that_makes_no_sense(prior):
    with pytest.raises(ParameterError, match="prior"):
        BandedPartition(prior).bind(2, 2, 0)


@pytest.mark.parametrize("sample", [[], [0.0], [1.5], [0.1, float("nan")]])
def test_a_sample_that_makes_no_sense(sample):
    with pytest.raises(ParameterError, match="sample"):
        BandedPartition.from_sample(sample)


def test_a_prior_of_a_sample_has_equally_many_in_each_band():
    sample = np.random.default_rng(0).uniform(0.01, 0.5, 1000)
    prior = prior_of(sample, 4)
    assert list(prior.values()) == [0.25] * 4
    assert max(prior) == sample.max()


@pytest.mark.parametrize("wrong", [[0.1, 0.2], "x", [[0.1]], [0.1, 1.2, 0.1], [0.1, np.nan, 0.1], [0.1, -0.1, 0.1]])
def test_probabilities_that_are_none(wrong):
    with pytest.raises(DataError, match="erasure_probability"):
        checked_probability(wrong, 3)


def test_one_probability_for_each_id():
    places = np.array([0, 1, 0])
    assert one_for_each(np.array([0.1, 0.2, 0.1]), places, 2).tolist() == [0.1, 0.2]
    with pytest.raises(DataError, match="1 ids have rows of several"):
        one_for_each(np.array([0.1, 0.2, 0.3]), places, 2)


# -- the model -------------------------------------------------------------------------------------------------------


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    ids = rng.permutation(120) // 2 + 1000
    return rng.normal(size=(120, 3)), rng.permutation(120) % 2, ids, people(60)[ids - 1000]


@pytest.fixture(params=["memory", "store"])
def where(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "a.sisa"


@pytest.fixture(params=["erasures", "people"])
def banded(request):
    """Both ways to make shards of people."""
    return BandedPartition(PRIOR, shards=request.param)


def new(where=None, partition=None, **options):
    partition = BandedPartition(PRIOR) if partition is None else partition
    known = {"n_shards": 3, "n_slices": 2, "random_state": 0} | options
    return SISAClassifier(GaussianNB(), partition=partition, store=where, **known)


def part(data, rows):
    X, y, ids, probability = data
    return {"X": X[rows], "y": y[rows], "ids": ids[rows], "erasure_probability": probability[rows]}


def same(model, other, X):
    return model.model_digest_ == other.model_digest_ and np.array_equal(model.predict_proba(X), other.predict_proba(X))


def test_forgetting_with_bands_is_exact(data, where, banded):
    X, _, ids, _ = data
    clf = new(where, banded).fit(**part(data, slice(0, 90))).partial_fit(**part(data, slice(90, 120)))
    gone = np.unique(ids)[[3, 17, 40]]
    receipt = clf.forget(gone)
    assert receipt.n_records == 6
    kept = ~np.isin(ids, gone)
    first, later = kept & (np.arange(120) < 90), kept & (np.arange(120) >= 90)
    twin = clf.pinned().fit(**part(data, first)).partial_fit(**part(data, later))
    assert same(clf, twin, X)
    assert clf.verify(**part(data, kept)).exact
    clf.consolidate()
    assert same(clf, clf.pinned().fit(**part(data, kept)), X)
    if where:
        again = load(where)
        assert again.partition_.bands == clf.partition_.bands == Bands.of(PRIOR, banded.shards)
        assert again.forget(ids[0]).n_records == int((ids == ids[0]).sum())
        assert again.verify().exact


def test_rectified_records_stay_in_their_bands(data, where, banded):
    X, y, ids, probability = data
    clf = new(where, banded).fit(**part(data, slice(0, 90))).partial_fit(**part(data, slice(90, 120)))
    # The likeliest to leave: what rectify takes for granted of nobody.
    chosen = np.unique(ids[probability == 0.4])
    places = clf.partition_.locate(chosen)
    rows = np.array([np.flatnonzero(ids == i)[0] for i in chosen])
    clf.rectify(X[rows] + 5, y[rows], ids=chosen)
    assert clf.partition_.locate(chosen) == places
    clf.consolidate()
    others = ~np.isin(ids, chosen)
    kept = np.r_[np.flatnonzero(others), rows]
    changed = X + 5 * ~others[:, None], y, ids, probability
    twin = clf.pinned().fit(**part(changed, kept))
    assert same(clf, twin, X)
    assert clf.partition_.locate(chosen) == twin.partition_.locate(chosen)


def test_an_id_whose_probability_has_changed_is_forgotten_whole(data, where, banded):
    X, y, ids, probability = data
    clf = new(where, banded).fit(**part(data, slice(0, 90)))
    chosen = ids[0]
    other = 0.4 if probability[0] < 0.4 else 0.01
    clf.partial_fit(X[:3] + 9, y[:3], ids=[chosen] * 3, erasure_probability=other)
    assert clf.forget(chosen).n_records == int((ids[:90] == chosen).sum()) + 3
    kept = (ids != chosen) & (np.arange(120) < 90)
    assert same(clf, clf.pinned().fit(**part(data, kept)), X)


def test_the_probability_is_given_always_or_never(data, where, banded):
    X, y, ids, probability = data
    with pytest.raises(DataError, match="needs erasure_probability"):
        new(where, banded).fit(X, y, ids=ids)
    with pytest.raises(ParameterError, match="Leave it out"):
        SISAClassifier(GaussianNB()).fit(X, y, ids=ids, erasure_probability=probability)
    mixed = probability.copy()
    mixed[0] = 0.4 if probability[0] < 0.4 else 0.01
    with pytest.raises(DataError, match="1 ids have rows of several"):
        new(where, banded).fit(X, y, ids=ids, erasure_probability=mixed)
    clf = new(where, banded).fit(X, y, ids=ids, erasure_probability=probability)
    before = clf.model_digest_, clf._ensemble.store.ledger.epoch
    with pytest.raises(DataError, match="needs erasure_probability"):
        clf.partial_fit(X[:2], y[:2], ids=ids[:2])
    with pytest.raises(DataError, match="needs erasure_probability"):
        clf.verify(X, y, ids=ids)
    assert (clf.model_digest_, clf._ensemble.store.ledger.epoch) == before


def test_no_id_alone_tells_where_it_belongs(data):
    _, _, ids, _ = data
    clf = new().fit(**part(data, slice(0, 90)))
    assert len(clf.partition_.locate(np.unique(ids[:90]))) == len(np.unique(ids[:90]))
    with pytest.raises(UnknownRecordError, match="1 ids have no record"):
        clf.partition_.locate([ids[0], 5])


def test_another_prior_is_another_model(data, tmp_path):
    path = tmp_path / "a.sisa"
    new(path).fit(**part(data, slice(0, 90)))
    with pytest.raises(StoreInUseError, match="partition"):
        new(path, BandedPartition(COUNTRIES)).fit(**part(data, slice(0, 90)))
    with pytest.raises(StoreInUseError, match="partition"):
        new(path, BandedPartition(PRIOR, shards="people")).fit(**part(data, slice(0, 90)))
    assert new(path).fit(**part(data, slice(0, 90))).verify().exact


def test_without_ids_bands_work_and_the_schema_stays(data):
    X, y, _, probability = data
    y = np.where(np.arange(120) < 10, 2, y)
    clf = new().fit(X, y, erasure_probability=probability)
    clf.forget(range(10))
    assert same(clf, clf.pinned().fit(X[10:], y[10:], erasure_probability=probability[10:]), X)
    with pytest.raises(CapabilityError, match="cannot be refreshed"):
        clf.consolidate(refresh_schema=True)
