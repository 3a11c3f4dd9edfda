import math

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from stormlive_sim.errors import InputError
from stormlive_sim.structure_kinds import STRUCTURES
from stormlive_sim.structures import clusters, filaments, rings

FIELD = (10_000.0, 12_000.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def groups(sites: torch.Tensor, link_nm: float) -> list[np.ndarray]:
    points = sites.double().numpy()
    near = KDTree(points).sparse_distance_matrix(KDTree(points), link_nm)
    n, label = connected_components(near, directed=False)
    return [points[label == k] for k in range(n)]


@pytest.mark.parametrize(("diameter", "corners"), [(107.0, 8), (140.0, 6)])
def test_rings_have_their_diameter_and_corners(diameter: float, corners: int) -> None:
    sites = rings(30, FIELD, generator(), diameter_nm=diameter, corners=corners, labels_per_corner=1, scatter_nm=0)
    whole = [g for g in groups(sites, 0.6 * diameter) if len(g) == corners]
    assert len(whole) > 15
    for ring in whole:
        arms = ring - ring.mean(0)
        assert np.hypot(*arms.T) == pytest.approx(np.full(corners, diameter / 2), abs=0.05)
        angles = np.sort(np.arctan2(arms[:, 1], arms[:, 0]))
        assert np.diff(angles) == pytest.approx(np.full(corners - 1, math.tau / corners), abs=2e-3)


def test_labels_scatter_about_the_corners_of_a_ring() -> None:
    sites = rings(60, FIELD, generator(1), diameter_nm=107, scatter_nm=5, labels_per_corner=4)
    whole = [g for g in groups(sites, 55) if len(g) == 32]
    radii = np.concatenate([np.hypot(*(g - g.mean(0)).T) for g in whole])
    # Scatter across the radius adds half its variance over the radius.
    assert radii.mean() == pytest.approx(53.5 + 25 / 2 / 53.5, abs=0.5)
    assert radii.std() == pytest.approx(5, rel=0.1)


def test_rings_do_not_overlap_and_all_are_there() -> None:
    sites = rings(1200, FIELD, generator(), corners=3, labels_per_corner=1, diameter_nm=100, scatter_nm=0)
    nearest = KDTree(sites.numpy()).query(sites.numpy(), k=2)[0][:, 1]
    assert nearest.min() > 20  # centres 125 nm apart, so that corners come no closer than 25
    assert len(sites) == pytest.approx(3600, rel=0.02)


def test_more_rings_than_fit_are_refused() -> None:
    with pytest.raises(InputError, match="fit into the field"):
        rings(200, (1000.0, 1000.0), generator())


def test_clusters_have_their_size_and_number_of_labels() -> None:
    sizes, widths = [], []
    for seed in range(40):
        sites = clusters(1, (1e5, 1e5), generator(seed), sigma_nm=40, labels=200)
        if len(sites):
            sizes.append(len(sites))
            widths.append(sites.double().std(0).tolist())
    assert np.mean(sizes) == pytest.approx(200, abs=4 * math.sqrt(200 / 40))
    assert np.std(sizes) == pytest.approx(math.sqrt(200), rel=0.4)
    assert np.mean(widths) == pytest.approx(40, rel=0.03)


def test_strands_of_a_bundle_keep_their_distance_on_both_sides_of_its_middle() -> None:
    sites = filaments(
        1, FIELD, generator(2), radius_nm=0, persistence_nm=1e12, strands=3, gap_nm=60, spacing_nm=20
    ).double()
    centred = sites - sites.mean(0)
    along, across = (centred @ torch.linalg.svd(centred, full_matrices=False).Vh.T).T
    for half in (across[along > 0], across[along < 0]):
        strands = half.round(decimals=-1).unique(return_counts=True)
        assert len(strands[0]) <= 6  # three values, each perhaps on the edge of rounding
        assert sorted({round(v / 60) for v in half.tolist()}) == [-1, 0, 1]
    for k in (-1, 0, 1):
        strand = across[(across / 60).round() == k]
        assert strand.std() < 1
        assert strand.mean().item() == pytest.approx(60 * k, abs=2)


@pytest.mark.parametrize("kind", ["microtubules", "bundles", "rings", "clusters"])
def test_local_density_is_far_above_the_mean(kind: str) -> None:
    sites = STRUCTURES[kind]().sites(FIELD, generator()).numpy()
    mean = len(sites) / (FIELD[0] * FIELD[1])
    tree = KDTree(sites)
    around = np.mean(tree.query_ball_point(sites, 50, return_length=True)) - 1
    assert around / (math.pi * 50**2) > 5 * mean


def test_uniform_has_no_structure() -> None:
    sites = STRUCTURES["uniform"]().sites(FIELD, generator()).numpy()
    around = np.mean(KDTree(sites).query_ball_point(sites, 50, return_length=True)) - 1
    assert around / (math.pi * 50**2) == pytest.approx(len(sites) / (FIELD[0] * FIELD[1]), rel=0.05)


@pytest.mark.parametrize("kind", list(STRUCTURES))
def test_all_labels_lie_in_the_field(kind: str) -> None:
    sites = STRUCTURES[kind]().sites((3000.0, 5000.0), generator())
    assert len(sites) > 0
    assert ((sites >= 0) & (sites <= torch.tensor([5000.0, 3000.0]))).all()
