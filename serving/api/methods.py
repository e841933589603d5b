"""Methods: those that a path takes by all of its routes, of which Starlette tells the first one's alone.

What can be got by `GET` can be asked for by `HEAD`, as HTTP has it.
"""

from collections.abc import Collection

from fastapi import Request
from starlette.routing import BaseRoute, Match, Mount


def allowed_methods(request: Request) -> list[str]:
    included = [getattr(router, "original_router", None) for router in request.app.routes]
    routes = [*request.app.routes, *(route for router in included if router is not None for route in router.routes)]
    matching = (route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL)
    within = request.scope.get("root_path", "")  # of a mounted folder, whose files are there to get
    mounted = [route for route in routes if isinstance(route, Mount) and route.path and within.endswith(route.path)]
    methods = {method for route in matching for method in _methods_of(route)} | ({"GET"} if mounted else set())
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def _methods_of(route: BaseRoute) -> Collection[str]:
    return getattr(route, "methods", None) or ()
