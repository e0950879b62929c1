"""Kernels of patches of another size: what a stem or a merging layer computed at another resolution."""
import numpy as np


def resample_patches(weight, old, new):
    """A patch convolution's kernels for patches of another size, by area.

    The sum of each kernel stays, so that the response to a constant patch does. Without overlaps, twice the patch size
    gives on an image of twice the size exactly what the old kernels give on the image averaged over 2 x 2 pixels; half
    of it gives on an image of half the size what they give on the image with each pixel doubled.

    Args:
        weight: float [out, in, k, k], k = step + 2 overlap.
        old, new: (step, overlap) of the patches, see ``FasterNet``.

    Returns:
        float32 [out, in, K, K], K = step + 2 overlap of the new patches.
    """
    matrix = _shares(old, new)  # [K, k]
    return np.einsum("Kk,oikl,Ll->oiKL", matrix, np.asarray(weight, np.float64), matrix).astype(np.float32)


def _shares(old, new):
    """[K, k]: the share of each old cell that falls into each new one; every column has the sum 1.

    Both kernels are centred on the patch, an old cell is as wide as the steps' ratio, and the outermost new cells take
    what falls outside.
    """
    ratio = new[0] / old[0]
    old_size, new_size = (step + 2 * overlap for step, overlap in (old, new))
    starts = (np.arange(old_size) - old_size / 2) * ratio
    edges = np.arange(new_size + 1) - new_size / 2
    edges[0], edges[-1] = -np.inf, np.inf
    low, high = np.maximum(edges[:-1, None], starts), np.minimum(edges[1:, None], starts + ratio)
    return np.maximum(high - low, 0) / ratio
