"""Finds the app in a file or a module."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from contextvars import ContextVar

from .app import App
from .errors import ConfigurationError

#: Whether a file is read for its hooks: a server that it would run is not wanted then.
loading: ContextVar[bool] = ContextVar("mairust_loading", default=False)


def load(target: str) -> App:
    """The app that ``my_hooks.py``, ``my_hooks:app`` or ``folder/my_hooks.py:app`` names; ``app`` if no name is given."""
    place, _, name = target.partition(":")
    token = loading.set(True)
    try:
        module = _file(place) if place.endswith(".py") else _module(place)
    finally:
        loading.reset(token)
    try:
        app = getattr(module, name or "app")
    except AttributeError:
        raise ConfigurationError(f"{place} has no {name or 'app'}: write {place}:NAME") from None
    if not isinstance(app, App):
        raise ConfigurationError(f"{name or 'app'} in {place} is no mairust.App, but {type(app).__name__}")
    return app


def _module(name: str) -> object:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ConfigurationError(f"there is no module {name}") from None


def _file(path: str) -> object:
    if not os.path.isfile(path):
        raise ConfigurationError(f"there is no file {path}")
    folder, file = os.path.split(os.path.abspath(path))
    name = file.removesuffix(".py")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
