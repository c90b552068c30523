"""Methods of other libraries' objects that are observed.

The method of the class is replaced, and an object says in its attributes who observes it. An attribute of the object
with a function would either keep the object alive, or lose it in `client.pipeline().execute()` before the call.
"""

import functools
import inspect
from typing import Any, Protocol


class Observer(Protocol):
    """No method raises."""

    def begin(self, owner: Any, arguments: tuple[Any, ...]) -> Any:
        """Called before the method. What it returns is given to `end`."""

    def end(self, begun: Any, result: Any, error: BaseException | None) -> None:
        """Called after the method."""


def observe(owner: Any, method: str, observer: Observer) -> None:
    """Observe the calls of a method of this object, a function or a coroutine function."""
    replaced = vars(owner).get(method)  # by another library, for this object
    if replaced is not None:
        setattr(owner, method, _observed(replaced, lambda _: observer, is_bound=True))
        return
    kind = next(kind for kind in type(owner).__mro__ if method in vars(kind))
    name = f"_deckwatch_{kind.__name__}_{method}"
    vars(owner)[name] = observer
    function = vars(kind)[method]
    if not getattr(function, "_is_observed_by_deckwatch", False):
        observed = _observed(function, lambda owner: owner.__dict__.get(name), is_bound=False)
        observed._is_observed_by_deckwatch = True
        setattr(kind, method, observed)


def _observed(function: Any, observer_of: Any, *, is_bound: bool) -> Any:
    """`is_bound`: the function does not get its object."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def observed_async(*arguments: Any, **options: Any) -> Any:
            observer = observer_of(None if is_bound else arguments[0])
            if observer is None:
                return await function(*arguments, **options)
            begun = observer.begin(*((None, arguments) if is_bound else (arguments[0], arguments[1:])))
            try:
                result = await function(*arguments, **options)
            except BaseException as error:
                observer.end(begun, None, error)
                raise
            observer.end(begun, result, None)
            return result

        return observed_async

    @functools.wraps(function)
    def observed(*arguments: Any, **options: Any) -> Any:
        observer = observer_of(None if is_bound else arguments[0])
        if observer is None:
            return function(*arguments, **options)
        begun = observer.begin(*((None, arguments) if is_bound else (arguments[0], arguments[1:])))
        try:
            result = function(*arguments, **options)
        except BaseException as error:
            observer.end(begun, None, error)
            raise
        observer.end(begun, result, None)
        return result

    return observed
