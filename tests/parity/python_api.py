"""Writes python_api.json: the classes of x-transformers, of FLASH-pytorch by their names in model files, and the one of
Zeta's page (own_modules.py), with methods, parameters and defaults."""
import importlib
import inspect
import json
from importlib.metadata import version
from pathlib import Path

import own_modules
from calls import FLASH_CLASSES, MODULES

PATH = Path(__file__).with_name('python_api.json')
PLAIN = (bool, int, float, str, type(None))


def parameters(method):
    """name -> {} if required, {"default": value} or {"default_code": name of what it is}."""
    bare = inspect.unwrap(method)
    while bare.__name__ == 'inner':  # eval_decorator hides the signature
        bare = inspect.unwrap(next(cell.cell_contents for cell in bare.__closure__
                                   if inspect.isfunction(cell.cell_contents)))
    found = {}
    for name, p in list(inspect.signature(bare).parameters.items())[1:]:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if p.default is p.empty:
            found[name] = {}
        elif isinstance(p.default, PLAIN) or isinstance(p.default, (dict, tuple)):
            found[name] = dict(default=p.default)
        else:
            found[name] = dict(default_code=getattr(p.default, '__name__', repr(p.default)))
    return found


def describe(cls):
    methods = {name: parameters(method) for name, method in vars(cls).items()
               if inspect.isfunction(method) and (name == '__init__' or not name.startswith('_'))}
    return dict(bases=[base.__name__ for base in cls.__bases__], methods=methods)


def text():
    """What python_api.json must hold."""
    classes = {}
    for name in MODULES:
        module = importlib.import_module(name)
        classes |= {key: dict(module=name, **describe(cls)) for key, cls in vars(module).items()
                    if inspect.isclass(cls) and cls.__module__ == name and not key.startswith('_')}
    classes |= {key: dict(module=module, **describe(getattr(importlib.import_module(module), name)))
                for key, (module, name) in FLASH_CLASSES.items()}
    classes['ZetaTransformer'] = dict(module='own_modules', **describe(own_modules.ZetaTransformer))
    return json.dumps(dict(x_transformers=version('x-transformers'), flash_pytorch=version('FLASH-pytorch'),
                           classes=classes), indent=1) + '\n'


if __name__ == '__main__':
    PATH.write_text(text())
