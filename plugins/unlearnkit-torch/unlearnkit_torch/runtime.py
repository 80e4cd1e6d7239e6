"""What has to hold around torch for bits to be reproducible: one thread, deterministic kernels, own random numbers."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

_switches_lock = threading.Lock()
_random_lock = threading.RLock()
_deterministic: Any = torch.utils.deterministic
_inside = 0
_predicting = threading.local()
_threads = 1
_found: list[Any] = []
_NOTHING = nullcontext()


@contextmanager
def pinned() -> Iterator[None]:
    """Hold the process-wide switches of torch at fixed values while any thread is inside."""
    _enter()
    try:
        with _no_autocast():
            yield
    finally:
        _leave()


@contextmanager
def predicting(read: Callable[[], Any] = lambda: None) -> Iterator[Any]:
    """Hold the switches, and no gradients; gives what `read` does inside."""
    _enter()
    try:
        with _no_autocast(), torch.inference_mode():
            _predicting.here = True
            try:
                yield read()
            finally:
                _predicting.here = False
    finally:
        _leave()


def _no_autocast() -> AbstractContextManager[Any]:
    # To switch off what is off takes as long as a layer of a small module.
    return torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else _NOTHING


def is_predicting() -> bool:
    """Whether this thread is inside `predicting`. To enter it again takes as long as a small module does."""
    return bool(getattr(_predicting, "here", False))


def _enter() -> None:
    global _inside, _threads, _found  # noqa: PLW0603
    with _switches_lock:
        if _inside == 0:
            _threads, _found = torch.get_num_threads(), []
            for read, write, wanted in _SWITCHES:
                _found.append(found := read())
                # To set a switch takes longer than a layer of a small module, and most are as they should be.
                if found != wanted:
                    write(wanted)
        # OpenMP keeps the number per thread, so each thread that comes in has to set its own.
        torch.set_num_threads(1)
        _inside += 1


def _leave() -> None:
    global _inside  # noqa: PLW0603
    with _switches_lock:
        _inside -= 1
        # MKL's number is shared: raising it while another thread is inside would change that thread's bits.
        if _inside == 0:
            torch.set_num_threads(_threads)
            for (read, write, _), found in zip(_SWITCHES, _found, strict=True):
                if read() != found:
                    write(found)


def _deterministic_now() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(found: tuple[bool, bool]) -> None:
    mode, warn_only = found
    torch.use_deterministic_algorithms(mode, warn_only=warn_only)


def _set_benchmark(found: bool) -> None:  # noqa: FBT001
    torch.backends.cudnn.benchmark = found


_SWITCHES: tuple[tuple[Callable[[], Any], Callable[[Any], None], Any], ...] = (
    (_deterministic_now, _set_deterministic, (True, False)),
    # Constructors make their weights in the default dtype before they are converted.
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (lambda: torch.backends.cudnn.benchmark, _set_benchmark, False),
)


@contextmanager
def global_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators, which layers such as Dropout draw from, and put them back afterwards.

    One thread at a time: the generators belong to the process.
    """
    with _random_lock, _torch_seeded(seed, device):
        python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def fill_restored() -> Iterator[None]:
    """Put back afterwards whether torch fills new memory, which it does with NaN while its kernels are deterministic.

    The filling costs a small network some percent of its training. Only for blocks inside `global_randomness`, which
    threads enter one at a time.
    """
    before = _deterministic.fill_uninitialized_memory
    try:
        yield
    finally:
        _deterministic.fill_uninitialized_memory = before


def stop_filling() -> None:
    """Leave new memory as it is, until the end of `fill_restored`."""
    _deterministic.fill_uninitialized_memory = False


@contextmanager
def _torch_seeded(seed: int, device: torch.device) -> Iterator[None]:
    if device.type != "cpu":
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
        return
    # Not by torch.manual_seed: without an accelerator it notes the call and its stack for each kind, for ever.
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


class OwnRandomness(TorchDispatchMode):
    """Inside, torch on the CPU draws from a generator of this block, as if by ``torch.manual_seed(seed)``.

    The global generator is neither read nor moved, so that a module can be built while another thread trains.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generator = torch.Generator(device="cpu").manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Hand the generator to every operator that takes one."""
        options = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            func = _taking_generator(func)
            if _takes_generator(func) and options.get("generator") is None:
                options["generator"] = self.generator
        return func(*args, **options)


def _argument_names(func: Any) -> tuple[str, ...]:
    return tuple(argument.name for argument in func._schema.arguments)  # noqa: SLF001


def _takes_generator(func: Any) -> bool:
    return "generator" in _argument_names(func)


@lru_cache(maxsize=256)
def _taking_generator(func: Callable[..., Any]) -> Any:
    """The overload of an operator that differs by an argument ``generator`` alone, or the operator itself."""
    packet: Any = func.overloadpacket  # type: ignore[attr-defined]
    wanted = sorted((*_argument_names(func), "generator"))
    for name in packet.overloads():
        other = getattr(packet, name)
        if sorted(_argument_names(other)) == wanted:
            return other
    return func


def derive(seed: int, purpose: str) -> int:
    """A seed of its own for each purpose, below 2**63."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=8).digest(), "big") >> 1
