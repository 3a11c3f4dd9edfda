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
    rmse_x_nm, rmse_y_nm : float
        The same per axis: sqrt(mean(dx²)).
    bias_x_nm, bias_y_nm : float
        Mean of found - truth over the matched pairs, per axis.
    efficiency : float
        100 - sqrt((100 - 100 J)² + rmse²), at 1 %/nm (Sage et al., Nature Methods 16, 387, 2019).
    n_truth, n_found, n_matched : int
        Counts.
    """

    jaccard: float
    precision: float
    recall: float
    rmse_nm: float
    rmse_x_nm: float
    rmse_y_nm: float
    bias_x_nm: float
    bias_y_nm: float
    efficiency: float
    n_truth: int
    n_found: int
    n_matched: int


def match(found: NDArray[np.float64], truth: NDArray[np.float64], tolerance_nm: float) -> NDArray[np.int64]:
    """Pair points of two sets: as many pairs as possible, and among those the least total distance.

    Parameters
    ----------
    found, truth : ndarray
        (N, D) and (M, D), positions in nm.
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
    # Most points have one possible partner only, which has no other: nothing to be solved there.
    alone = (np.bincount(near.row)[near.row] == 1) & (np.bincount(near.col)[near.col] == 1)
    pairs = [np.stack((near.row[alone], near.col[alone]), 1).astype(np.int64)]
    if not alone.all():
        pairs.append(_assign(near.row[~alone], near.col[~alone], near.data[~alone], tolerance_nm))
    return np.concatenate(pairs)


def _assign(
    rows: NDArray[np.integer], columns: NDArray[np.integer], distances: NDArray[np.float64], tolerance_nm: float
) -> NDArray[np.int64]:
    """Return the best pairs (K, 2) of a sparse list of possible ones, component by component."""
    n = int(rows.max()) + 1
    side = n + int(columns.max()) + 1
    links = csr_array((np.ones(len(rows)), (rows, columns + n)), shape=(side, side))
    component = connected_components(links, directed=False)[1][rows]
    order = np.argsort(component, kind="stable")
    pairs = []
    for edges in np.split(order, np.flatnonzero(np.diff(component[order])) + 1):
        found, row = np.unique(rows[edges], return_inverse=True)
        truth, column = np.unique(columns[edges], return_inverse=True)
        # No sum of distances can outweigh one more pair.
        cost = np.full((len(found), len(truth)), tolerance_nm * (min(len(found), len(truth)) + 1.0))
        cost[row, column] = distances[edges]
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] <= tolerance_nm:
                pairs.append((found[i], truth[j]))
    return np.array(pairs, np.int64).reshape(-1, 2)


def match_tables(found: Emitters, truth: Emitters, tolerance_nm: float) -> NDArray[np.int64]:
    """Pair the rows of two tables, frame by frame: (K, 2) indices into `found` and `truth`."""
    points = []
    for table in (found, truth):
        # Frames are planes farther apart than any pair may be: all frames are matched at once.
        plane = table.frame.cpu().numpy() * (2 * tolerance_nm + 1)
        points.append(np.column_stack((positions_nm(table), plane)))
    return match(points[0], points[1], tolerance_nm)


def positions_nm(table: Emitters) -> NDArray[np.float64]:
    """Return the positions of a table as float64 (N, 2), (x, y) in nm."""
    return np.stack((table.x_nm.cpu().numpy(), table.y_nm.cpu().numpy()), 1).astype(np.float64)


def score(found: Emitters, truth: Emitters, tolerance_nm: float) -> Scores:
    """Match two tables frame by frame and return the scores."""
    return scores(found, truth, match_tables(found, truth, tolerance_nm))


def scores(found: Emitters, truth: Emitters, pairs: NDArray[np.int64]) -> Scores:
    """Return the scores of two tables whose rows are paired as `match_tables` does."""
    offset = positions_nm(found)[pairs[:, 0]] - positions_nm(truth)[pairs[:, 1]]
    n = len(pairs)
    union = len(found) + len(truth) - n
    jaccard = n / union if union else math.nan
    bias = offset.mean(0) if n else np.full(2, math.nan)
    squared = (offset**2).mean(0) if n else np.full(2, math.nan)
    rmse = math.sqrt(squared.sum())
    return Scores(
        jaccard=jaccard,
        precision=n / len(found) if len(found) else math.nan,
        recall=n / len(truth) if len(truth) else math.nan,
        rmse_nm=rmse,
        rmse_x_nm=math.sqrt(squared[0]),
        rmse_y_nm=math.sqrt(squared[1]),
        bias_x_nm=float(bias[0]),
        bias_y_nm=float(bias[1]),
        efficiency=100 - math.hypot(100 - 100 * jaccard, rmse),
        n_truth=len(truth),
        n_found=len(found),
        n_matched=n,
    )
