"""Methods: those that a path takes by all of its routes, of which Starlette tells the first one's alone."""

from fastapi import Request
from starlette.routing import Match


def allowed_methods(request: Request) -> list[str]:
    included = [getattr(router, "original_router", None) for router in request.app.routes]
    routes = [*request.app.routes, *(route for router in included if router is not None for route in router.routes)]
    matching = (route for route in routes if route.matches(request.scope)[0] is Match.PARTIAL)
    return sorted({method for route in matching for method in getattr(route, "methods", None) or ()})
