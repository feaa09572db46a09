"""A team's own grouping rule: the service of a container is what its Compose file calls it."""

import json
import re

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.grouping import Role
from wit_world.exports.lifecycle import Description
from wit_world.imports import logging
from wit_world.imports.types import (
    Instance,
    PluginError_InvalidInput,
    PluginError_InvalidSettings,
    Readiness,
    Transport,
)

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
ANYWHERE = ("", "0.0.0.0", "::")
SCHEMA = '{"type":"object","properties":{"domain":{"type":"string"}},"additionalProperties":false}'

domain = ""


class Lifecycle(exports.Lifecycle):
    def describe(self):
        return Description("compose", "0.1.0", "Groups containers by their Compose project and service.", SCHEMA, [])

    def configure(self, settings):
        global domain
        values = json.loads(settings)
        unknown = sorted(set(values) - {"domain"})
        if unknown:
            raise Err(PluginError_InvalidSettings(f"{unknown[0]}: unknown key, expected domain"))
        domain = values.get("domain", "")
        if not isinstance(domain, str):
            raise Err(PluginError_InvalidSettings(f"domain: found {domain!r}, expected a string"))


class Grouping(exports.Grouping):
    def group(self, node, container):
        labels = dict(container.labels)
        if PROJECT not in labels or SERVICE not in labels:
            return Role([], [])
        name = ".".join(filter(None, [labels[SERVICE], labels[PROJECT], domain]))
        if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name):
            raise Err(PluginError_InvalidInput(f"{name!r} is no service name, expected letters, digits, `.`, `-` and `_`"))
        ports = published(container)
        logging.log(logging.Level.DEBUG, f"{container.name}: {name} with {len(ports)} ports")
        names = [name] if len(ports) == 1 else [f"{name}-{port.container_port}" for port in ports]
        return Role([instance(node, container, port, name) for port, name in zip(ports, names)], [])


def published(container):
    """One binding for each TCP port, IPv4 before IPv6."""
    bindings = {}
    for port in container.ports:
        if port.host_port is not None and port.transport == Transport.TCP:
            first = bindings.setdefault(port.container_port, port)
            if ":" in (first.host_address or ""):
                bindings[port.container_port] = port
    return [bindings[number] for number in sorted(bindings)]


def instance(node, container, port, service):
    attributes = {
        "container": container.name,
        "container-port": str(port.container_port),
        "hostname": container.hostname,
        "image": container.image,
        "listen-port": str(port.container_port),
        "node": node.name,
        "protocol": "tcp",
    }
    return Instance(
        service=service,
        id=container.id[:12],
        address=node.address if (port.host_address or "") in ANYWHERE else port.host_address,
        port=port.host_port,
        transport=Transport.TCP,
        readiness=Readiness.READY,
        weight=None,
        attributes=sorted(attributes.items()),
    )
