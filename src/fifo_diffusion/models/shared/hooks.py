"""Forward hooks on a denoiser that follow it: when the user puts another one in its place, they move there."""

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


class Place(NamedTuple):
    """Where a hook belongs: before or after a module's forward. Those that are `told` get keyword arguments too."""

    module: nn.Module
    when: Literal["before", "after"]
    function: Callable[..., Any]
    told: bool = False


def while_running(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A method of `DenoiserHooks` as a hook that changes nothing outside `running`."""

    @wraps(hook)
    def inert_outside(self: "DenoiserHooks", *args: Any) -> Any:
        return hook(self, *args) if self.acts else None

    return inert_outside


class DenoiserHooks(ABC):
    """Hooks on one denoiser or several, inert outside `running()`: each is a method under `while_running`.

    They act on calls from the thread that is inside `running()` only, so that a pipeline may be called in another one.
    (Compiled denoisers cannot tell threads apart.)

    Install them before a denoiser is compiled: later ones would be silently ignored.

    A copy or a pickle of a denoiser holds copies of the hooks, which do nothing and are taken off when hooks are
    installed there.
    """

    _running = False
    _thread: int | None = None
    _begun = _done = False
    _modules: Sequence["weakref.ref[nn.Module]"] = ()
    _handles: Sequence[RemovableHandle] = ()

    def __init__(self, *denoisers: nn.Module) -> None:
        self.follow(*denoisers)

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @abstractmethod
    def places(self, denoiser: nn.Module) -> Iterator[Place]:
        """Where in a denoiser the hooks belong. The first must call `seen_begin`, one at the end `seen_end`."""

    def follow(self, *denoisers: nn.Module) -> bool:
        """Put the hooks on these denoisers, and off all others. False where they are there already.

        Raises:
            ValueError: a denoiser without the layers that they belong to.
        """
        places = []
        for denoiser in map(bare, denoisers):
            try:
                places += list(self.places(denoiser))
            except (AttributeError, IndexError, TypeError) as error:
                raise ValueError(
                    f"a {type(denoiser).__name__} is not built like the denoisers that FIFO knows here: put one of the "
                    f"pipeline's own kind in its place ({error})"
                ) from error
        if len(places) == len(self._modules) and all(
            place.module is module() and _is_on(handle)
            for place, module, handle in zip(places, self._modules, self._handles, strict=True)
        ):
            return False
        self.remove()
        # Weak, so that a denoiser that the user lets go of is freed at once.
        self._modules = [weakref.ref(place.module) for place in places]
        self._handles = [_installed(place) for place in places]
        return True

    def remove(self) -> None:
        """Take all hooks off; the denoisers are stock again."""
        for handle in self._handles:
            handle.remove()
        self._modules = self._handles = ()

    @contextmanager
    def running(self, **values: Any) -> Iterator[None]:
        """Within, hooks act, and `self` has these values as attributes; afterwards those of its class again.

        Raises:
            RuntimeError: at the end, if a denoiser ran without them: all frames would have had one timestep.
        """
        self._begun = self._done = False
        vars(self).update(values)
        self._thread, self._running = threading.get_ident(), True
        try:
            yield
        finally:
            self._running = False
            for name in values:
                vars(self).pop(name, None)
        if not (self._begun and self._done):
            raise RuntimeError(
                "the denoiser ran past the hooks that give every frame its own timestep (it was replaced inside, or "
                "compiled by something that leaves hooks out): put a plain module in its place, or torch.compile it"
            )

    @property
    def acts(self) -> bool:
        """Whether the call that is under way is ours."""
        # Compilers see a constant here; without it they could not look past the thread's number.
        return self._running and (torch.compiler.is_compiling() or threading.get_ident() == self._thread)

    def seen_begin(self) -> None:
        self._begun = True

    def seen_end(self) -> None:
        self._done = True


def bare(denoiser: Any) -> Any:
    """The module inside what `torch.compile` or peft put around it."""
    while True:
        if hasattr(denoiser, "_orig_mod"):
            denoiser = denoiser._orig_mod
        elif hasattr(denoiser, "get_base_model"):
            denoiser = denoiser.get_base_model()
        else:
            return denoiser


def reset_if_compiled(module: nn.Module) -> None:
    """If the denoiser is compiled already, have it traced again, with our hooks in it (or without, once they are off).

    PyTorch can only forget everything that it has compiled in this process; other compiled models are traced again at
    their next call too.
    """
    if is_compiled(module):
        torch.compiler.reset()


def is_compiled(module: nn.Module) -> bool:
    """By `torch.compile(module)` or `module.compile()`."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _hooks_of(module: nn.Module, when: str) -> dict[int, Any]:
    return module._forward_pre_hooks if when == "before" else module._forward_hooks


def _is_on(handle: RemovableHandle) -> bool:
    return handle.id in (handle.hooks_dict_ref() or ())


def _installed(place: Place) -> RemovableHandle:
    hooks = _hooks_of(place.module, place.when)
    for key, function in list(hooks.items()):
        owner = getattr(function, "__self__", None)
        if isinstance(owner, DenoiserHooks) and not vars(owner):  # came with a copy of another denoiser
            del hooks[key]
    if place.when == "before":
        return place.module.register_forward_pre_hook(place.function, with_kwargs=place.told)
    return place.module.register_forward_hook(place.function, with_kwargs=place.told)


_LOCKS: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_LOCKS_GUARD = threading.Lock()


def lock_of(module: Any) -> AbstractContextManager[Any]:
    """One lock for everything that works on this module, whoever asks; it stays with the module."""
    with _LOCKS_GUARD:
        found = _LOCKS.get(module)
        if found is None:
            found = _LOCKS[module] = threading.RLock()
        return found
