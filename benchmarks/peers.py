"""MAML's meta-gradient of a SIREN in JAX and PyTorch, without TensorFlow.

Plain programs of the same definition (full grid, second order), without tuning.
Every function returns a step of no arguments, whose results `(loss, gradients)`
stay on the device.

Args of all:
    params: kernels and biases in turn, arrays.
    coords: `[n, 2]`.
    values: of all tasks, `[batch, n, 3]`.
    inner_steps: number of inner steps.
"""

import functools

INNER_LR = 1e-2
_W0 = 200.0


def jax_step(params, coords, values, inner_steps, *, vmap):
    """MAML's meta-gradient in JAX, jitted, by `vmap` or an unrolled loop."""
    import jax
    import jax.numpy as jnp

    def predict(params, coords):
        outputs = coords
        for kernel, bias in zip(params[:-2:2], params[1:-2:2]):
            outputs = jnp.sin(_W0 * (outputs @ kernel + bias))
        return outputs @ params[-2] + params[-1] + 0.5

    def mse(params, values):
        return jnp.mean((predict(params, coords) - values) ** 2)

    def adapted_loss(params, values):
        for _ in range(inner_steps):
            gradients = jax.grad(mse)(params, values)
            params = [p - INNER_LR * g for p, g in zip(params, gradients)]
        return mse(params, values)

    def vmapped(params, values):
        return jnp.mean(
            jax.vmap(adapted_loss, in_axes=(None, 0))(params, values)
        )

    def looped(params, values):
        return sum(adapted_loss(params, v) for v in values) / len(values)

    params = [jnp.asarray(p) for p in params]
    coords, values = jnp.asarray(coords), jnp.asarray(values)
    step = jax.jit(jax.value_and_grad(vmapped if vmap else looped))
    return functools.partial(step, params, values)


def torch_step(params, coords, values, inner_steps, *, compiled, threads=None):
    """MAML's meta-gradient in PyTorch, eager or by `torch.compile`."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    params = [torch.tensor(p, device=device) for p in params]
    coords = torch.tensor(coords, device=device)
    values = torch.tensor(values, device=device)

    def mse(params, values):
        outputs = coords
        for kernel, bias in zip(params[:-2:2], params[1:-2:2]):
            outputs = torch.sin(_W0 * (outputs @ kernel + bias))
        outputs = outputs @ params[-2] + params[-1] + 0.5
        return torch.mean((outputs - values) ** 2)

    def eager_gradient(params, image):
        return torch.autograd.grad(
            mse(params, image), params, create_graph=True
        )

    def mean_loss(params, inner_gradient):
        total = 0.0
        for image in values:
            adapted = params
            for _ in range(inner_steps):
                gradients = inner_gradient(adapted, image)
                adapted = [p - INNER_LR * g for p, g in zip(adapted, gradients)]
            total = total + mse(adapted, image)
        return total / len(values)

    def eager():
        leaves = [p.requires_grad_() for p in params]
        loss = mean_loss(leaves, eager_gradient)
        return loss.detach(), torch.autograd.grad(loss, leaves)

    if not compiled:
        return eager
    inner_gradient = torch.func.grad(mse)
    step = torch.compile(
        torch.func.grad_and_value(
            functools.partial(mean_loss, inner_gradient=inner_gradient)
        )
    )

    def run():
        gradients, loss = step(params)
        return loss, gradients

    return run
