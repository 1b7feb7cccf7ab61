"""The kernel by neural-tangents, in an environment of its own: one JSON request a line on stdin, one JSON answer a line on stdout.

`{"load": file, "hidden": […], "activation": …}` loads weights and inputs, compiles and answers with the entries of a few rows;
`{"time": "default" or "best"}` runs the kernel once and answers with the CPU seconds that it took.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np

ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sin": jnp.sin}
# That samples do not mix (`vmap_axes`) must be said, and makes the structured derivatives a hundred times faster.
OPTIONS = {"default": {}, "best": {"implementation": nt.NtkImplementation.STRUCTURED_DERIVATIVES, "vmap_axes": 0}}


def compiled(apply, options):
    """The kernel of a batch and parameters."""
    kernel = nt.empirical_ntk_fn(apply, trace_axes=(-1,), **options)
    return jax.jit(lambda inputs, layers: kernel(inputs, None, layers))


def main() -> None:
    """Answer requests until the input ends."""
    kernels, arguments = {}, ()
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            file = np.load(request["load"])
            layers = [(jnp.asarray(file[f"weight{i}"]), jnp.asarray(file[f"bias{i}"])) for i in range(len(request["hidden"]) + 1)]
            activate = ACTIVATIONS[request["activation"]]

            def apply(layers, inputs, activate=activate):
                for weight, bias in layers[:-1]:
                    inputs = activate(inputs @ weight + bias)
                return inputs @ layers[-1][0] + layers[-1][1]

            kernels = {name: compiled(apply, options) for name, options in OPTIONS.items()}
            arguments = (jnp.asarray(file["inputs"]), layers)
            answer = {name: np.asarray(kernel(*arguments))[:2, :4].tolist() for name, kernel in kernels.items()}
        else:
            start = time.process_time()
            jax.block_until_ready(kernels[request["time"]](*arguments))
            answer = {"seconds": time.process_time() - start}
        print(json.dumps(answer), flush=True)


main()
