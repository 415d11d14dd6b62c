# SPDX-License-Identifier: MIT
"""Time the bundled model on a GPU: forward, training step, batches, CUDA graph, and where a forward spends its time."""

from __future__ import annotations

import os
import pickle
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from results import Results, parser, synchronize

# isort: split
from cases.crystals import batch
from clocks import captured

from dtnn_fast import DTNN, use_backend
from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.nn.graph import CrystalGraph, build_graph, crystal_batches

BATCH_ATOMS = (1024, 16384, 65536)
TOP_KERNELS = 30


def main() -> None:
    """Measure, what matters most first, until the time is over."""
    arguments = parser(__doc__)
    arguments.add_argument("--compiled", action="store_true", help="measure torch.compile too, last")
    options = arguments.parse_args()
    results, device = Results(options), torch.device(options.device)
    crystals = batch("1024 crystals").crystals[: 4 if options.small else None]
    models = _Models(device, crystals, repeats=2 if options.small else 7)
    for what, measure in models.measurements(options.compiled, options.small):
        if results.time_is_over(2.0):
            results.add("cut off", what=f"model from '{what}' on")
            return
        results.attempt("model", measure, what=what, crystals=len(crystals))


class _Models:
    """The bundled model, its graph of all crystals, and what is measured of them."""

    def __init__(self, device: torch.device, crystals: tuple[Crystal, ...], repeats: int) -> None:
        self.device, self.crystals, self.repeats = device, crystals, repeats
        self.model = DTNN.from_pretrained("dielectric").to(device).eval()
        self.graph = self._graph(crystals)
        self.reduced = None
        path = os.environ.get("DTNN_CRYSTALS_WITH_OPERATIONS")
        if path:
            # The machine may have no moyopy: operations come with the crystals.
            self.crystals = tuple(pickle.loads(Path(path).read_bytes()))
            self.reduced = self.model.inference_graph(self.crystals)

    def measurements(self, compiled: bool, small: bool) -> Iterable[tuple[str, Callable[[], dict[str, Any]]]]:
        """Names and calls."""
        yield "sizes", self._sizes
        yield "forward, native", lambda: self._forward("native")
        yield "forward, native, kernels", lambda: self._kernels("native")
        yield "forward, native, CUDA graph", lambda: self._captured("native")
        yield "forward, native, tf32", lambda: self._in_tf32(lambda: self._forward("native"))
        yield "forward, native, tf32, CUDA graph", lambda: self._in_tf32(lambda: self._captured("native"))
        yield "forward, native, tf32, kernels", lambda: self._in_tf32(lambda: self._kernels("native"))
        if self.reduced is not None:
            graph = self.reduced
            yield "sizes of the reduced graph", lambda: self._sizes(graph)
            yield "forward, reduced", lambda: self._forward("native", graph=graph)
            yield "forward, reduced, kernels", lambda: self._kernels("native", graph=graph)
            yield "forward, reduced, CUDA graph", lambda: self._captured("native", graph=graph)
            yield "training step, reduced", lambda: self._step("native", graph)
        yield "forward, eager", lambda: self._forward("reference")
        yield "training step, native", lambda: self._step("native")
        yield "training step, eager", lambda: self._step("reference")
        yield "forward, native, no_grad", lambda: self._forward("native", torch.no_grad)
        yield "forward, 1 crystal, native", lambda: self._forward("native", crystals=self.crystals[:1])
        yield "forward, 1 crystal, native, CUDA graph", lambda: self._captured("native", self.crystals[:1])
        for batch_atoms in BATCH_ATOMS:
            yield f"forward of graphs, batch_atoms {batch_atoms}", lambda n=batch_atoms: self._batches(n)
        yield "build_graph on the CPU and copy", self._build
        yield "forward, eager, kernels", lambda: self._kernels("reference")
        yield "forward, eager, CUDA graph", lambda: self._captured("reference")
        for batch_atoms in reversed(BATCH_ATOMS):
            yield f"from structures, batch_atoms {batch_atoms}", lambda n=batch_atoms: self._from_structures(n)
        yield "from structures, 1 crystal", lambda: self._from_structures(BATCH_ATOMS[0], self.crystals[:1])
        yield "from structures, 1 crystal, recorded", lambda: self._recorded(BATCH_ATOMS[0], self.crystals[:1])
        yield f"from structures, batch_atoms {BATCH_ATOMS[0]}, recorded", lambda: self._recorded(BATCH_ATOMS[0])
        yield "training step, native, kernels", lambda: self._kernels("native", training=True)
        if compiled:
            backend = "aot_eager" if small else "inductor"
            yield "forward, compiled reference", lambda: self._compiled(backend)

    def _graph(self, crystals: Iterable[Crystal]) -> CrystalGraph:
        return self.model.graph(list(crystals))

    def _sizes(self, graph: CrystalGraph | None = None) -> dict[str, Any]:
        graph = graph or self.graph
        bonds = {str(tier.cutoff): tier.num_bonds for tier in graph.tiers}
        return {"atoms": graph.num_atoms, "bonds": bonds, "parameters": dict(self.model.num_parameters())}

    def _wall(self, call: Callable[[], Any], repeats: int | None = None) -> dict[str, Any]:
        """Median seconds with a wait at the end of each call, and until the host has enqueued all of it."""
        walls, hosts = [], []
        call()
        if self.device.type == "cuda":
            synchronize(self.device)
            torch.cuda.reset_peak_memory_stats()
        for _ in range(repeats or self.repeats):
            synchronize(self.device)
            start = time.perf_counter()
            call()
            hosts.append(time.perf_counter() - start)
            synchronize(self.device)
            walls.append(time.perf_counter() - start)
        found = {"wall_s": statistics.median(walls), "host_s": statistics.median(hosts), "best_s": min(walls)}
        if self.device.type == "cuda":
            found["peak_bytes"] = torch.cuda.max_memory_allocated()
        return found

    def _runner(
        self, backend: str, mode: Callable[[], Any] = torch.inference_mode, graph: CrystalGraph | None = None
    ) -> Callable[[], Any]:
        graph = graph or self.graph

        def run() -> Any:
            with use_backend(backend), mode():
                return self.model(graph)

        return run

    def _forward(
        self,
        backend: str,
        mode: Callable[[], Any] = torch.inference_mode,
        crystals: tuple[Crystal, ...] | None = None,
        graph: CrystalGraph | None = None,
    ) -> dict[str, Any]:
        graph = self._graph(crystals) if crystals else graph
        return self._wall(self._runner(backend, mode, graph))

    @staticmethod
    def _in_tf32(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        torch.set_float32_matmul_precision("high")
        try:
            return measure()
        finally:
            torch.set_float32_matmul_precision("highest")

    def _captured(
        self, backend: str, crystals: tuple[Crystal, ...] | None = None, graph: CrystalGraph | None = None
    ) -> dict[str, Any]:
        if self.device.type != "cuda":
            return {"skipped": "no CUDA graphs on a CPU"}
        graph = self._graph(crystals) if crystals else graph
        run = self._runner(backend, torch.no_grad, graph)
        one = captured([run], count=1)
        found = self._wall(one.replay)
        found["captured_s"] = one.seconds(5)
        return found

    def _step_call(self, backend: str, graph: CrystalGraph | None = None) -> Callable[[], None]:
        graph = graph or self.graph

        def step() -> None:
            self.model.zero_grad(set_to_none=True)
            with use_backend(backend):
                sum(tensors.square().mean() for tensors in self.model(graph).values()).backward()

        return step

    def _step(self, backend: str, graph: CrystalGraph | None = None) -> dict[str, Any]:
        try:
            return self._wall(self._step_call(backend, graph), max(2, self.repeats - 2))
        finally:
            self.model.zero_grad(set_to_none=True)

    def _kernels(self, backend: str, training: bool = False, graph: CrystalGraph | None = None) -> dict[str, Any]:
        """Time in each kernel of one forward or step, and in ours together."""
        call = self._step_call(backend, graph) if training else self._runner(backend, graph=graph)
        call()
        synchronize(self.device)
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if self.device.type == "cuda":
            kinds = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profile:
            call()
            synchronize(self.device)
        on_gpu = self.device.type == "cuda"
        rows = [
            (event.key, (event.self_device_time_total if on_gpu else event.self_cpu_time_total) * 1e-6, event.count)
            for event in profile.key_averages()
        ]
        rows = sorted((row for row in rows if row[1] > 0), key=lambda row: -row[1])
        ours = [row for row in rows if "dtnn" in row[0]]
        return {
            "kernel_s": sum(row[1] for row in rows),
            "launches": sum(row[2] for row in rows),
            "ours_s": sum(row[1] for row in ours),
            "our_launches": sum(row[2] for row in ours),
            "top": [[name[:160], seconds, count] for name, seconds, count in rows[:TOP_KERNELS]],
        }

    def _batches(self, batch_atoms: int) -> dict[str, Any]:
        """Forward passes of all batches of `predict`, graphs given."""
        groups = list(crystal_batches(self.crystals, batch_atoms))
        graphs = [self._graph(self.crystals[k] for k in group) for group in groups]
        runs = [self._runner("native", graph=graph) for graph in graphs]
        return self._wall(lambda: [run() for run in runs], 5) | {"batches": len(runs)}

    def _from_structures(self, batch_atoms: int, crystals: tuple[Crystal, ...] | None = None) -> dict[str, Any]:
        chosen = list(crystals or self.crystals)
        return self._wall(lambda: self.model.predict_targets(chosen, batch_atoms), 3 if crystals is None else 20)

    def _recorded(self, batch_atoms: int, crystals: tuple[Crystal, ...] | None = None) -> dict[str, Any]:
        self.model.use_cuda_graphs()
        try:
            return self._from_structures(batch_atoms, crystals)
        finally:
            self.model.use_cuda_graphs(0)

    def _build(self) -> dict[str, Any]:
        start = time.perf_counter()
        graph = build_graph(self.crystals, self.model.encoder.cutoffs)
        built = time.perf_counter()
        graph.to(self.device)
        synchronize(self.device)
        return {"build_s": built - start, "copy_s": time.perf_counter() - built}

    def _compiled(self, backend: str) -> dict[str, Any]:
        model = torch.compile(self.model, dynamic=False, backend=backend)

        def run() -> Any:
            with use_backend("reference"), torch.no_grad():
                return model(self.graph)

        start = time.perf_counter()
        run()
        synchronize(self.device)
        first = time.perf_counter() - start
        return self._wall(run) | {"first_call_s": first}


if __name__ == "__main__":
    main()
