# Copyright (c) 2026, opennebula.flower contributors
# SPDX-License-Identifier: Apache-2.0
"""Marketplaces, and the apps in them that come from images of the zone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.core.call import Call, parse_template, settle
from lab.core.errors import ACTION, INTERNAL, OneError, failure
from lab.core.images import spec
from lab.core.markup import Data, attributes, ids
from lab.core.method import Method
from lab.core.pools import generic_methods, head
from lab.core.states import AppState

if TYPE_CHECKING:
    from lab.core.api import Core

#: by driver: the attributes a marketplace needs; apps can be made and removed in those that need some
_DRIVERS = {
    "one": (), "linuxcontainers": (), "http": ("BASE_URL", "PUBLIC_DIR"),
    "s3": ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION", "BUCKET"),
}
_APP_TYPES = {"UNKNOWN": 0, "IMAGE": 1, "VMTEMPLATE": 2, "SERVICE_TEMPLATE": 3}
#: attributes that only the server sets
_RESULTS = ("SOURCE", "SIZE", "MD5", "FORMAT", "REGTIME", "ORIGIN_ID", "ZONE_ID")
_FIRST_ID = 100


def _apps(core: Core, market: dict) -> list[dict]:
    return [app for app in core.store.all("marketapp") if app["market"] == market["id"]]


def _market_body(core: Core, market: dict) -> dict:
    body = head(core, market)
    permissions = body.pop("PERMISSIONS")
    return body | {
        "STATE": market["state"], "MARKET_MAD": Data(market["template"]["MARKET_MAD"]), "ZONE_ID": Data(0),
        "TOTAL_MB": 0, "FREE_MB": 0, "USED_MB": 0, "MARKETPLACEAPPS": ids([app["id"] for app in _apps(core, market)]),
        "PERMISSIONS": permissions, "TEMPLATE": attributes(market["template"]),
    }


def _delete_market(call: Call, market: dict) -> bool:
    if _apps(call.core, market):
        raise OneError(ACTION, f"Cannot delete marketplace. marketplace  {market['id']} is not empty.")
    return True


def _check_driver(template: dict) -> None:
    """Refuse a marketplace without what its driver needs. Raises OneError."""
    driver = template.get("MARKET_MAD", "")
    if not driver:
        raise OneError(INTERNAL, "No marketplace driver (MARKET_MAD) in template.")
    if driver not in _DRIVERS:
        raise OneError(INTERNAL, f'MARKET_MAD_CONF named "{driver}" is not defined in oned.conf')
    for needed in _DRIVERS[driver]:
        if not template.get(needed):
            raise OneError(INTERNAL, f'MarketPlace template is missing the "{needed}" attribute or it\'s empty.')


def _allocate_market(call: Call, text: str) -> int:
    call.authorize(("CREATE", "market", None))
    template = parse_template(text)
    name = settle(template, ("NAME", "MARKET_MAD")).pop("NAME", "")
    with call.making("market"):
        call.check_name("market", name, INTERNAL)
        _check_driver(template)
    market = call.new("market", name, at_least=_FIRST_ID, state=0, template=template)
    call.core.store.save("market", market)
    return market["id"]


def _enable_market(call: Call, market_id: int, enable: bool) -> int:
    """Use a marketplace or not; the apps of one that is not are forgotten."""
    market = call.get("market", market_id, "MANAGE")
    if market["state"] != int(not enable):
        market["state"] = int(not enable)
        for app in _apps(call.core, market) if not enable else ():
            call.core.store.remove("marketapp", app["id"])
        call.core.store.save("market", market)
    return market_id


def _app_body(core: Core, app: dict) -> dict:
    body = head(core, app)
    name, permissions, template = body.pop("NAME"), body.pop("PERMISSIONS"), app["template"]
    return body | {
        "REGTIME": app["regtime"], "NAME": name, "ZONE_ID": Data(0), "ORIGIN_ID": Data(app["origin"]),
        "SOURCE": Data(app["source"]), "MD5": Data(app["md5"]), "SIZE": app["size"],
        "DESCRIPTION": Data(template.get("DESCRIPTION", "")), "VERSION": Data(template.get("VERSION", "0.0")),
        "FORMAT": Data(app["format"]), "APPTEMPLATE64": Data(template.get("APPTEMPLATE64", "")),
        "MARKETPLACE_ID": app["market"], "MARKETPLACE": core.store.get("market", app["market"])["name"],
        "STATE": int(app["state"]), "TYPE": app["type"], "PERMISSIONS": permissions, "TEMPLATE": attributes(template),
    }


def _update_app(_call: Call, _app: dict, template: dict) -> dict:
    return {name: value for name, value in template.items() if name not in _RESULTS}


def _delete_app(call: Call, app: dict) -> bool:
    market = call.core.store.get("market", app["market"])
    if not _DRIVERS[market["template"]["MARKET_MAD"]]:
        raise OneError(ACTION, f"Cannot delete marketplaceapp. Delete disabled for market: {market['name']}")
    call.core.lifecycle.work(
        lambda: None, lambda _result: call.core.store.remove("marketapp", app["id"]), lambda _reason: None
    )
    return False


def _allocate_app(call: Call, text: str, market_id: int) -> int:
    """Make an app of an image of the zone, or one that is a template only."""
    template = parse_template(text)
    call.authorize(("CREATE", "marketapp", None))
    market = call.core.store.get("market", market_id)
    if market is None:
        raise OneError(INTERNAL, f"Cannot find associated MARKETPLACE ID = {market_id}")
    if not _DRIVERS[market["template"]["MARKET_MAD"]]:
        raise OneError(ACTION, f"Create disabled for market: {market['name']}")
    name, origin = settle(template, ("NAME", "ORIGIN_ID", "TYPE")).pop("NAME", ""), template.get("ORIGIN_ID")
    with call.making("marketapp"):
        call.check_name("marketapp", name, INTERNAL)
        if origin is None:
            raise OneError(INTERNAL, "Missing ORIGIN_ID for the MARKETPLACEAPP")
    kind = _APP_TYPES.get(template.get("TYPE", "IMAGE").upper(), _APP_TYPES["UNKNOWN"])
    app = call.new(
        "marketapp", name, market=market_id, origin=origin, type=kind, state=AppState.READY, regtime=call.core.now(),
        source="", md5="", size=0, format="", template=_update_app(call, {}, template),
    )
    if kind == _APP_TYPES["UNKNOWN"]:
        _fail(call.core, app, "Marketplace app type not supported.")
        raise OneError(INTERNAL, "Marketplace app type not supported.")
    if kind == _APP_TYPES["IMAGE"]:
        _publish(call.core, app, market)
    call.core.store.save("marketapp", app)
    return app["id"]


def _fail(core: Core, app: dict, reason: str) -> None:
    app["state"] = AppState.ERROR
    app["template"]["ERROR"] = failure(core, reason)
    core.store.save("marketapp", app)


def _publish(core: Core, app: dict, market: dict) -> None:
    """Let the driver copy the image of an app into its marketplace, in the background. Raises OneError."""
    image = core.store.get("image", int(app["origin"]))
    if image is None:
        _fail(core, app, "Image does not exist.")
        raise OneError(INTERNAL, "Image does not exist.")
    app["state"] = AppState.LOCKED
    published = spec(image)

    def copied(md5: str) -> None:
        source = f"{market['template'].get('BASE_URL', '')}/{md5}"
        app.update(state=AppState.READY, source=source, md5=md5, size=image["size"], format=image["format"])
        core.store.save("marketapp", app)

    core.lifecycle.work(
        lambda: core.driver.publish_image(published), copied,
        lambda reason: _fail(core, app, f"Error importing app into marketplace: {reason}"),
    )


def _enable_app(call: Call, app_id: int, enable: bool) -> int:
    app = call.get("marketapp", app_id, "MANAGE")
    if app["state"] in (AppState.READY, AppState.DISABLED):
        app["state"] = AppState.READY if enable else AppState.DISABLED
    call.core.store.save("marketapp", app)
    return app_id


METHODS = {
    **generic_methods("market", _market_body, deleter=_delete_market),
    **generic_methods("marketapp", _app_body, updater=_update_app, deleter=_delete_app),
    "one.market.allocate": Method(_allocate_market, "s"),
    "one.market.enable": Method(_enable_market, "i b"),
    "one.marketapp.allocate": Method(_allocate_app, "s i"),
    "one.marketapp.enable": Method(_enable_app, "i b"),
}
