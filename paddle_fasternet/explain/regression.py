"""Weighted linear regression on masks, in closed form and in memory that does not grow with the samples."""
import numpy as np

from .._check import check_choice

REGRESSORS = ("least_squares", "ridge", "forward")


def kernel_weights(masks, kernel_width=0.25):
    """How near each mask is to showing everything: sqrt(exp(-d² / kernel_width²)), d the cosine distance.

    Args:
        masks: [N, segments], true where a segment is shown.

    Returns:
        float64 [N]. A mask that shows nothing is at distance 1.
    """
    share = masks.sum(1) / masks.shape[1]
    distance = 1 - np.sqrt(share)
    return np.exp(-0.5 * (distance / kernel_width) ** 2)


class Moments:
    """Weighted sums of products of masks and values: all that a linear regression needs to know of its samples.

    Args:
        origin: [values], subtracted from the values, so that small differences between them keep their digits.
    """

    def __init__(self, origin):
        self.origin = np.asarray(origin, np.float64)
        self.samples = 0
        self._sum = 0.0

    def add(self, masks, values, weights):
        """Take in samples: masks [N, segments], values [N, values], weights [N]."""
        rows = np.concatenate([np.ones((len(masks), 1)), masks, values - self.origin], axis=1)
        self._sum = self._sum + rows.T @ (weights[:, None] * rows)
        self.samples += len(masks)

    def __iadd__(self, other):
        self._sum = self._sum + other._sum
        self.samples += other.samples
        return self

    def solve(self, regressor="least_squares", alpha=1.0, num_features=10):
        """Fit every value as intercept + coefficients @ mask.

        Args:
            regressor: "least_squares"; "ridge", which adds alpha * |coefficients|² to the weighted squares; or
                "forward", least squares on the ``num_features`` segments that lower the error most, taken one by one.

        Returns:
            coefficients [values, segments], intercepts [values], R2 [values], weighted. Where a value is the same in
            all samples, its coefficients are 0 and R2 is 1.

        Raises:
            ValueError: the samples do not determine the coefficients.
        """
        check_choice("regressor", regressor, REGRESSORS)
        values = len(self.origin)
        total = self._sum[0, 0]
        mean = self._sum[0, 1:] / max(total, np.finfo(float).tiny)
        covariance = self._sum[1:, 1:] - total * np.outer(mean, mean)
        xx, xy, yy = covariance[:-values, :-values], covariance[:-values, -values:], covariance[-values:, -values:]
        if regressor == "forward":
            coefficients = np.stack([_forward(xx, xy[:, i], num_features) for i in range(values)])
        elif regressor == "ridge" and alpha > 0:
            coefficients = np.linalg.solve(xx + alpha * np.eye(len(xx)), xy).T
        else:
            self._check_rank(xx, total)
            coefficients = np.linalg.solve(xx, xy).T
        intercepts = mean[-values:] + self.origin - coefficients @ mean[:-values]
        spread = yy.diagonal()
        error = spread - 2 * (coefficients * xy.T).sum(1) + ((coefficients @ xx) * coefficients).sum(1)
        r2 = 1 - np.divide(error, spread, out=np.zeros(values), where=spread > 0)
        return coefficients, intercepts, r2

    def _check_rank(self, xx, total):
        segments = len(xx)
        if self.samples <= segments:
            raise ValueError(f"num_samples={self.samples} cannot determine {segments} coefficients and an intercept; "
                             f"take more samples, or regressor='ridge' or 'forward'")
        if xx.diagonal().max() <= 1e-9 * max(total, 1):
            raise ValueError("kernel_width is so small that only the whole image has any weight; take a larger one")
        eigenvalues = np.linalg.eigvalsh(xx)
        if eigenvalues[0] <= 1e-9 * eigenvalues[-1]:
            constant = np.flatnonzero(xx.diagonal() <= 1e-9 * xx.diagonal().max())
            reason = (f"segments {', '.join(map(str, constant[:8]))} are shown in all or in none of them"
                      if len(constant) else "some segments are always hidden together")
            raise ValueError(f"the {self.samples} masks do not determine {segments} coefficients: {reason}; take more "
                             "samples, or regressor='ridge' or 'forward'")


def _forward(xx, xy, num_features):
    """Least squares on the segments that lower the squared error most, each given those before; [segments]."""
    left, gain_of, chosen = xx.copy(), xy.copy(), []
    smallest = 1e-9 * xx.diagonal().max()
    for _ in range(min(num_features, len(xx))):
        size = left.diagonal()
        usable = size > smallest  # the others depend on those chosen
        usable[chosen] = False
        if not usable.any():
            break
        gain = np.where(usable, gain_of**2 / np.where(usable, size, 1), -1)
        best = int(gain.argmax())
        chosen.append(best)
        # what of everything else the chosen one does not explain
        column, own = left[:, best].copy(), size[best]
        gain_of = gain_of - column * (gain_of[best] / own)
        left = left - np.outer(column, column) / own
    coefficients = np.zeros(len(xx))
    coefficients[chosen] = np.linalg.solve(xx[np.ix_(chosen, chosen)], xy[chosen])
    return coefficients
