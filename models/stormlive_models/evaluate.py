"""How good a table of localizations is, against the truth."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from stormlive_sim.emitters import Emitters


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Detection and precision of a table of localizations.

    Attributes
    ----------
    jaccard, precision, recall : float
        Shares of 1; NaN where there was nothing to find and nothing found.
    rmse_nm : float
        Lateral root mean square distance of the matched pairs: sqrt(mean(dx² + dy²)).
    efficiency : float
        100 - sqrt((100 - 100 J)² + rmse²), at 1 %/nm (Sage et al., Nature Methods 16, 387, 2019).
    n_truth, n_found, n_matched : int
        Counts.
    """

    jaccard: float
    precision: float
    recall: float
    rmse_nm: float
    efficiency: float
    n_truth: int
    n_found: int
    n_matched: int


def match(found: NDArray[np.float64], truth: NDArray[np.float64], tolerance_nm: float) -> NDArray[np.int64]:
    """Pair points of two sets: as many pairs as possible, and among those the least total distance.

    Parameters
    ----------
    found, truth : ndarray
        (N, 2) and (M, 2), positions in nm.
    tolerance_nm : float
        Largest distance of a pair.

    Returns
    -------
    ndarray
        (K, 2) pairs of indices into `found` and `truth`.
    """
    if not len(found) or not len(truth):
        return np.zeros((0, 2), np.int64)
    near = KDTree(found).sparse_distance_matrix(KDTree(truth), tolerance_nm, output_type="coo_matrix")
    if near.nnz == 0:
        return np.zeros((0, 2), np.int64)
    n = len(found)
    links = csr_array((np.ones(near.nnz), (near.row, near.col + n)), shape=(n + len(truth),) * 2)
    _, component = connected_components(links, directed=False)
    order = np.argsort(component[near.row], kind="stable")
    pairs = []
    for edges in np.split(order, np.flatnonzero(np.diff(component[near.row][order])) + 1):
        rows, row = np.unique(near.row[edges], return_inverse=True)
        columns, column = np.unique(near.col[edges], return_inverse=True)
        # No sum of distances can outweigh one more pair.
        cost = np.full((len(rows), len(columns)), tolerance_nm * (min(len(rows), len(columns)) + 1.0))
        cost[row, column] = near.data[edges]
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] <= tolerance_nm:
                pairs.append((rows[i], columns[j]))
    return np.array(pairs, np.int64).reshape(-1, 2)


def score(found: Emitters, truth: Emitters, tolerance_nm: float) -> Scores:
    """Match two tables frame by frame and return the scores."""
    squared: list[NDArray[np.float64]] = []
    points = [
        (t.frame.cpu().numpy(), np.stack((t.x_nm.cpu().numpy(), t.y_nm.cpu().numpy()), 1).astype(np.float64))
        for t in (found, truth)
    ]
    (found_frame, found_xy), (truth_frame, truth_xy) = points
    for frame in np.union1d(found_frame, truth_frame):
        a, b = found_xy[found_frame == frame], truth_xy[truth_frame == frame]
        pairs = match(a, b, tolerance_nm)
        squared.append(((a[pairs[:, 0]] - b[pairs[:, 1]]) ** 2).sum(1))
    matched = np.concatenate(squared) if squared else np.zeros(0)
    n = len(matched)
    union = len(found) + len(truth) - n
    jaccard = n / union if union else math.nan
    rmse = math.sqrt(matched.mean()) if n else math.nan
    return Scores(
        jaccard=jaccard,
        precision=n / len(found) if len(found) else math.nan,
        recall=n / len(truth) if len(truth) else math.nan,
        rmse_nm=rmse,
        efficiency=100 - math.hypot(100 - 100 * jaccard, rmse) if n else math.nan,
        n_truth=len(truth),
        n_found=len(found),
        n_matched=n,
    )
