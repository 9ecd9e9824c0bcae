"""Networks of our own: a file of this package registers them with timm, so that ``model.name`` finds them."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
