"""Heat maps from what the graph computed."""

import numpy as np
import numpy.typing as npt

from lesion.manifest import Manifest

Singles = npt.NDArray[np.float32]


def to_heat(maps: Singles, logits: Singles, manifest: Manifest) -> Singles:
    """What each position adds to the log-odds of "malignant", to first order: (n, h, w) from (n, c, h, w) and (n, c).

    The graph's maps say what each position adds to each logit. P being the sum of the malignant p_k, the slope of
    log(P / (1 - P)) in logit k is p_k / P for a malignant and -p_k / (1 - P) for a benign diagnosis. Of two classes
    it is the class activation map (Zhou et al. 2016, arXiv:1512.04150) of "malignant" less that of "benign".
    """
    z = logits.astype(np.float64) / manifest.temperature
    malignant = np.zeros(z.shape[1], bool)
    malignant[list(manifest.taxonomy.malignant_outputs)] = True
    slopes = np.zeros_like(z)
    for side, sign in ((malignant, 1.0), (~malignant, -1.0)):
        within = np.exp(z[:, side] - z[:, side].max(axis=1, keepdims=True))  # a ratio: no underflow to 0 / 0
        slopes[:, side] = sign * within / within.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("nc,nchw->nhw", slopes / manifest.temperature, maps), np.float32)
