"""From what one image costs to what a pool costs: the sums of sizing.py."""

import pytest


@pytest.fixture
def sums(module):
    return module("extrapolation")


def test_storage_is_bytes_times_images_and_costs_nothing_that_nobody_named(sums):
    pool = sums.Pool(10_000_000, 1)
    (row,) = sums.storage(pool, {"cache": 450_000.0})
    assert row["gb"] == pytest.approx(4500.0) and "money_per_month" not in row
    (priced,) = sums.storage(pool, {"cache": 450_000.0}, price_gb_month=0.02)
    assert priced["money_per_month"] == pytest.approx(90.0)


def test_work_that_is_done_once_does_not_depend_on_the_epochs(sums):
    rows = [sums.preparation(sums.Pool(3_600_000, epochs), {"ingest": 0.002}, cores=4)[0] for epochs in (1, 100)]
    assert rows[0] == rows[1]
    assert rows[0]["core_hours"] == pytest.approx(2.0) and rows[0]["hours_on_4_cores"] == pytest.approx(0.5)


def test_the_curve_through_two_sizes_finds_the_terms_it_was_made_of(sums):
    sizes = [100_000, 300_000]
    linear, square = sums.quadratic(sizes, [2e-6 * n + 9e-11 * n * n for n in sizes])
    assert linear == pytest.approx(2e-6) and square == pytest.approx(9e-11)


def test_a_search_that_seems_to_get_cheaper_per_image_is_taken_for_linear(sums):
    assert sums.quadratic([100, 1000], [1.0, 5.0]) == (pytest.approx(0.005), 0.0)


def test_one_size_shows_no_growth(sums):
    with pytest.raises(ValueError, match="two different sizes"):
        sums.quadratic([100, 100], [1.0, 1.0])


def test_the_search_grows_with_the_square_and_its_memory_with_the_images(sums):
    pool = sums.Pool(1_000_000, 1)
    found = sums.search(pool, [100_000, 300_000], [0.9, 8.1], [0.25, 0.45])
    assert found["hours_of_one_core"] == pytest.approx(90 / 3600)
    assert found["memory_gb"] == pytest.approx(0.45 + 0.7)


def test_this_machine_counts_as_measured_and_a_gpu_as_computed_from_its_peak(sums):
    network = sums.Network("net", seconds=0.5, flops=4e10, feeding=0.002)
    pool = sums.Pool(1_000_000, 10)
    here, gpu = sums.training(pool, [network], "here", {"G": 100.0}, 0.4, {})
    assert (
        here["hours"] == pytest.approx(1e7 * 0.5 / 3600) and here["how_known"] == "measured per image" and here["cores_to_feed_it"] is None
    )
    assert gpu["images_per_s"] == pytest.approx(1000.0) and gpu["hours"] == pytest.approx(1e7 / 1000 / 3600)
    assert gpu["how_known"] == "computed at 40% of peak"
    assert gpu["cores_to_feed_it"] == pytest.approx(2.0)  # 1,000 images a second of 2 ms each
    assert "money" not in here and "money" not in gpu


def test_only_hardware_with_a_price_has_a_cost(sums):
    network = sums.Network("net", seconds=0.5, flops=4e10, feeding=0.002)
    here, gpu = sums.training(sums.Pool(3600, 1), [network], "here", {"G": 100.0}, 0.4, {"here": 0.1})
    assert here["money"] == pytest.approx(0.1 * 0.5) and "money" not in gpu


def test_a_price_of_unknown_hardware_and_an_impossible_utilisation_are_refused(sums):
    with pytest.raises(ValueError, match="price for H200, but the table has here, G"):
        sums.training(sums.Pool(1, 1), [], "here", {"G": 1.0}, 0.4, {"H200": 3.0})
    with pytest.raises(ValueError, match="is no share"):
        sums.training(sums.Pool(1, 1), [], "here", {"G": 1.0}, 35, {})
