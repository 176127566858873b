"""The changes to a parsed template that let the sandbox count, and tell the template's own text.

{% for x in y %} …            a call of tick() at the beginning of each turn
text and 'string constants'   literal('…'), known as the template's own
a ~ b, x[1:], [a, b], {…}     together(a, b), cut(x, 1, None, None), keep([a, b]), keep({…})
a == b, a in b                a == timed(b), a in timed(b)
include, import, extends      refused: a chat template is one text
autoescape                    refused: a prompt is no HTML
"""

from __future__ import annotations

from typing import Any

from edgeq.errors import UnsupportedError


def rewrite(tree: Any, environment: Any) -> Any:
    """Changes a template's tree in place and returns it. Raises UnsupportedError for what is refused."""
    _Rewriter().inside(tree)
    tree.set_environment(environment)
    return tree


class _Rewriter:
    def __init__(self) -> None:
        from jinja2 import nodes

        self.nodes = nodes
        self.loading = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
        self.escaping = (nodes.EvalContextModifier, nodes.ScopedEvalContextModifier)

    def inside(self, node: Any) -> Any:
        """Rewrites the fields of a node, then the node itself."""
        nodes = self.nodes
        if isinstance(node, self.loading):
            raise UnsupportedError("the chat template loads other templates, but it must be one text")
        if isinstance(node, self.escaping):
            raise UnsupportedError("the chat template uses autoescape, but a prompt is no HTML")
        for name, value in node.iter_fields():
            if isinstance(node, nodes.Getitem) and name == "arg" and isinstance(value, nodes.Const):
                continue  # a key
            if isinstance(node, nodes.Pair) and name == "key" and isinstance(value, nodes.Const):
                continue
            if isinstance(node, nodes.Getitem) and name == "arg" and isinstance(value, nodes.Slice):
                for part in ("start", "stop", "step"):
                    if getattr(value, part) is not None:
                        setattr(value, part, self.inside(getattr(value, part)))
            elif isinstance(value, nodes.Node):
                setattr(node, name, self.inside(value))
            elif isinstance(value, list):
                value[:] = [self.inside(item) if isinstance(item, nodes.Node) else item for item in value]
        return self.itself(node)

    def itself(self, node: Any) -> Any:
        nodes = self.nodes
        if isinstance(node, nodes.For):
            node.body.insert(0, nodes.ExprStmt(self.call("tick", node), lineno=node.lineno))
        elif isinstance(node, nodes.TemplateData):
            return self.call("literal", node, nodes.Const(self.valid(node.data), lineno=node.lineno))
        elif isinstance(node, nodes.Const) and isinstance(node.value, str):
            self.valid(node.value)
            return self.call("literal", node, node)
        elif isinstance(node, nodes.Operand):
            node.expr = self.call("timed", node.expr, node.expr)
        elif isinstance(node, nodes.Concat):
            return self.call("together", node, *node.nodes)
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
            parts = (node.arg.start, node.arg.stop, node.arg.step)
            none = nodes.Const(None, lineno=node.lineno)
            return self.call("cut", node, node.node, *(none if part is None else part for part in parts))
        elif isinstance(node, nodes.List | nodes.Dict) or (
            isinstance(node, nodes.Tuple) and node.ctx == "load"
        ):
            return self.call("keep", node, node)
        return node

    def call(self, name: str, at: Any, *args: Any) -> Any:
        """environment.name(*args)"""
        nodes = self.nodes
        function = nodes.EnvironmentAttribute(name, lineno=at.lineno)
        return nodes.Call(function, list(args), [], None, None, lineno=at.lineno)

    def valid(self, text: str) -> str:
        """No text that the template prints may hold a lone surrogate."""
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise UnsupportedError("the chat template holds a lone surrogate, which is no valid text")
        return text
