"""Settings, errors and the table of services."""

from __future__ import annotations

import inspect
import re

import msgspec
import pytest

import dcc_sim.errors
from dcc_sim import ConfigError, DccSimConfig, DeviceConfig, UserConfig
from dcc_sim.core.services import COMMAND_VARIANTS, SERVICE_OF_COMMAND_VARIANT


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"post_limit_s": 0}, "post_limit_s"),
        ({"counter_window": -1}, "counter_window"),
        ({"device_response_timeout_s": float("nan")}, "device_response_timeout_s"),
        ({"response_codes": {"nonsense": "E1"}}, "nonsense"),
        ({"response_codes": {"XML": "E7"}}, "E7"),
        ({"users": "twice"}, "listed twice"),
        ({"devices": "twice"}, "listed twice"),
    ],
)
def test_impossible_settings(make_config, changes, why):
    config = make_config()
    fields = {name: getattr(config, name) for name in DccSimConfig.__struct_fields__}
    for name, value in changes.items():
        fields[name] = fields[name] * 2 if value == "twice" else value
    with pytest.raises(ConfigError, match=re.escape(why)):
        DccSimConfig(**fields)


def test_impossible_users_and_devices(names):
    with pytest.raises(ConfigError, match="role"):
        UserConfig(entity_id=names["supplier"], role="king", receive_url="http://x/")
    with pytest.raises(ConfigError, match="receive_url"):
        UserConfig(entity_id=names["supplier"], role="supplier", receive_url="ftp://x/")
    with pytest.raises(ConfigError, match="device_type"):
        DeviceConfig(entity_id=names["device"], device_type="CEM")
    with pytest.raises(ConfigError, match="status"):
        DeviceConfig(entity_id=names["device"], status="broken")


def test_a_file_with_impossible_settings_is_refused_where_they_stand(names):
    with pytest.raises(msgspec.ValidationError, match=r"\$\.users\[0\]"):
        msgspec.convert(
            {
                "dcc_id": names["dcc"],
                "state": ":memory:",
                "users": [{"entity_id": names["supplier"], "role": "x", "receive_url": "http://x"}],
                "devices": [],
            },
            DccSimConfig,
        )


def test_the_error_tree_in_the_docstring_is_the_tree_of_the_classes():
    told = re.findall(r"[├└]── (\w+)", dcc_sim.errors.__doc__)
    classes = [
        name
        for name, one in inspect.getmembers(dcc_sim.errors, inspect.isclass)
        if issubclass(one, dcc_sim.errors.DccSimError) and one is not dcc_sim.errors.DccSimError
    ]
    assert sorted(told) == sorted(classes)


def test_variants_of_each_service_are_those_of_the_schema(reference_vectors):
    xsd = (reference_vectors / "duis" / "duis54.xsd").read_text()
    begin = xsd.index('<xs:simpleType name="ServiceReferenceVariant">')
    listed = xsd[begin : xsd.index("</xs:simpleType>", begin)]
    rows = re.findall(r'value="([^"]+)"/>\s*<!--\s*CV = (.*?)\s*-->', listed)
    assert {name: {int(one) for one in variants.split(",")} for name, variants in rows} == (
        COMMAND_VARIANTS
    )
    assert set().union(*COMMAND_VARIANTS.values()) == set(SERVICE_OF_COMMAND_VARIANT)
