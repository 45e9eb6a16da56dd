"""Which noise goes with which picture of a batch.

    independent         as drawn
    optimal-transport   handed out again within the batch, so that Σ_j ‖x_0,j − z_j‖² is smallest

Paths x_0 + t z of different pictures then cross less, and what a model is asked to say at one x_t varies less
(Pooladian et al. 2023, "Multisample Flow Matching"; Tong et al. 2023). Pictures and noise are drawn as before: only who
meets whom changes, and only among pictures of one class, so that the noise tells nothing of the class.

Noise that is added anew in multistep sampling knows nothing of this: a second call is best at a small time, where the
noise it adds says little (0.1 to 0.2 on MNIST in docs/peers.md, 0.4 to 0.8 without the coupling).
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Coupling = Literal["independent", "optimal-transport"]


def coupled(coupling: Coupling, x_0: Tensor, z: Tensor, labels: Tensor) -> Tensor:
    """z (n, …), its rows in another order. ImportError where scipy is missing and needed."""
    if coupling == "independent":
        return z
    order = torch.arange(len(z))
    for label in labels.unique():
        rows = torch.nonzero(labels == label)[:, 0]
        order[rows] = rows[nearest(x_0[rows], z[rows])]
    return z[order]


def nearest(x_0: Tensor, z: Tensor) -> Tensor:
    """The permutation p with the smallest Σ_j ‖x_0,j − z_p(j)‖², which has the largest Σ_j ⟨x_0,j, z_p(j)⟩."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        raise ImportError(
            "Coupling by optimal transport needs the scipy package: pip install 'fewstep[coupling]'."
        ) from None
    products = x_0.flatten(1).float() @ z.flatten(1).float().T
    return torch.from_numpy(np.asarray(linear_sum_assignment(products.cpu().numpy(), maximize=True)[1]))
