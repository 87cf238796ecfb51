"""OpenADR 2.0b messages of every type, made by openleadr, with what it leaves out added.

openleadr writes only some of the optional elements: dictionary_maker.elaboration puts in others.
Each message is checked against the schema that openleadr ships.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

from lxml import etree
from openleadr import enums, objects
from openleadr.messaging import create_message, validate_xml_schema

from dictionary_maker.elaboration import elaborate
from dictionary_maker.picking import Picker

# openleadr comments on what it corrects.
logging.getLogger("openleadr").setLevel(logging.ERROR)


@dataclass(frozen=True, slots=True)
class Message:
    """One message as openleadr wrote it, elaborated.

    ``downlink`` is True when a VTN sends it; ``octets`` is openleadr's serialisation unless
    ``elaborated``.
    """

    kind: str
    downlink: bool
    elaborated: bool
    octets: bytes


def make_messages(seed: str, variations: int) -> Iterator[Message]:
    """Make so many variations of every message of either direction."""
    for downlink, kinds in ((True, _DOWNLINK), (False, _UPLINK)):
        for kind, make in kinds.items():
            for number in range(variations):
                pick = Picker(f"{seed}/{kind}/{downlink}/{number}")
                text = create_message(kind, **make(pick))
                tree = etree.fromstring(text.encode())
                elaborated = number % 2 == 1 and elaborate(tree, pick)
                octets = etree.tostring(tree) if elaborated else text.encode()
                validate_xml_schema(octets)
                yield Message(kind, downlink, elaborated, octets)


def _ok(pick: Picker) -> dict[str, Any]:
    code, description = 200, "OK"
    if pick.chance(10):
        code = pick.one(enums.STATUS_CODES.values)
        description = pick.one(("ERROR", "Invalid ID", "Not recognized", "Not registered"))
    return {
        "response_code": code,
        "response_description": description,
        "request_id": pick.identifier("REQ"),
    }


def _ven(pick: Picker) -> str:
    return pick.identifier("VEN")


def _response(pick: Picker) -> dict[str, Any]:
    return {"response": _ok(pick), "ven_id": _ven(pick)}


def _plain_response(pick: Picker) -> dict[str, Any]:
    answer = _response(pick)
    if pick.chance(40):
        # As after a poll that nothing waited for.
        answer["response"]["request_id"] = None
    return answer


def _request(pick: Picker) -> dict[str, Any]:
    return {"request_id": pick.identifier("REQ"), "ven_id": _ven(pick)}


def _registration_response(pick: Picker) -> dict[str, Any]:
    return {**_response(pick), "registration_id": pick.identifier("REG")}


def _registration_request(pick: Picker) -> dict[str, Any]:
    return {**_request(pick), "registration_id": pick.identifier("REG")}


def _opt_response(pick: Picker) -> dict[str, Any]:
    return {"response": _ok(pick), "opt_id": pick.identifier("OPT")}


def _cancel_opt(pick: Picker) -> dict[str, Any]:
    return {**_request(pick), "opt_id": pick.identifier("OPT")}


def _cancel_report(pick: Picker) -> dict[str, Any]:
    return {
        **_request(pick),
        "report_request_id": pick.identifier("RR"),
        "report_to_follow": pick.chance(40),
    }


def _pending_reports(pick: Picker) -> dict[str, Any]:
    count = pick.number(0, 2)
    pending = [{"report_request_id": pick.identifier("RR")} for _ in range(count)]
    return {**_response(pick), "pending_reports": pending}


def _updated_report(pick: Picker) -> dict[str, Any]:
    cancel = None
    if pick.chance(30):
        cancel = _cancel_report(pick)
        cancel["report_request_id"] = [cancel["report_request_id"]]
    return {**_response(pick), "cancel_report": cancel}


def _registered(pick: Picker) -> dict[str, Any]:
    version_a = {"profile_name": "2.0a", "transports": [{"transport_name": "simpleHttp"}]}
    transports = [{"transport_name": "simpleHttp"}]
    if pick.chance(50):
        transports.append({"transport_name": "xmpp"})
    profiles = [{"profile_name": "2.0b", "transports": transports}]
    if pick.chance(50):
        profiles.insert(0, version_a)
    known = pick.chance(75)
    return {
        "response": _ok(pick),
        "registration_id": pick.identifier("REG") if known else None,
        "ven_id": _ven(pick) if known else None,
        "vtn_id": pick.identifier("VTN"),
        "profiles": profiles,
        "requested_oadr_poll_freq": timedelta(seconds=pick.one((10, 10, 15, 30, 60, 300))),
    }


def _create_registration(pick: Picker) -> dict[str, Any]:
    again = pick.chance(40)
    return {
        "request_id": pick.identifier("REQ"),
        "registration_id": pick.identifier("REG") if again else None,
        "ven_id": _ven(pick) if again else None,
        "profile_name": "2.0b",
        "transport_name": "simpleHttp",
        "transport_address": pick.one(("", "http://127.0.0.1:8080", "https://ven.example")),
        "report_only": pick.chance(50),
        "xml_signature": pick.chance(20),
        "ven_name": pick.identifier("ven"),
        "http_pull_model": pick.chance(90),
    }


def _report_requests(pick: Picker) -> list[objects.ReportRequest]:
    return [
        objects.ReportRequest(
            report_request_id=pick.identifier("RR"),
            report_specifier=objects.ReportSpecifier(
                report_specifier_id=pick.identifier("RS"),
                granularity=pick.duration(),
                report_back_duration=pick.duration(),
                report_interval=objects.Interval(pick.moment(), pick.duration(), 0.0)
                if pick.chance(60)
                else None,
                specifier_payloads=[
                    objects.SpecifierPayload(
                        r_id=pick.identifier("r"),
                        reading_type=pick.one(("Direct Read", "Direct Read", "x-notApplicable")),
                    )
                    for _ in range(pick.number(1, 3))
                ],
            ),
        )
        for _ in range(pick.number(1, 2))
    ]


def _create_report(pick: Picker) -> dict[str, Any]:
    return {**_request(pick), "report_requests": [asdict(r) for r in _report_requests(pick)]}


def _registered_report(pick: Picker) -> dict[str, Any]:
    requests = [asdict(r) for r in _report_requests(pick)] if pick.chance(70) else []
    return {**_response(pick), "report_requests": requests}


def _measurement(pick: Picker) -> objects.Measurement:
    name = pick.one(("powerReal", "powerReal", "energyReal", "energyReal", "voltage", "frequency"))
    power = objects.PowerAttributes(pick.one((50, 60)), pick.one((230, 120)), pick.chance(80))
    return objects.Measurement(
        name=name,
        description=enums._MEASUREMENT_DESCRIPTIONS[name],
        unit=enums._ACCEPTABLE_UNITS[name][0],
        scale=pick.one(("none", "none", "k", "n")),
        power_attributes=power if name == "powerReal" else None,
    )


def _register_report(pick: Picker) -> dict[str, Any]:
    reports = []
    for _ in range(pick.number(1, 2)):
        descriptions = [
            objects.ReportDescription(
                r_id=pick.identifier("r"),
                market_context=pick.one((None, "http://MarketContext1", "http://market.example")),
                reading_type=pick.one(("Direct Read", "Direct Read", "x-notApplicable", "Mean")),
                report_subject=objects.Target(
                    end_device_asset=objects.EndDeviceAsset(
                        pick.one(enums.SIGNAL_TARGET_MRID.values)
                    )
                )
                if pick.chance(30)
                else None,
                report_data_source=objects.Target(resource_id=pick.identifier("resource")),
                report_type=pick.one(("usage", "usage", "reading", "x-resourceStatus", "demand")),
                sampling_rate=objects.SamplingRate(pick.duration(), pick.duration(), False),
                measurement=_measurement(pick) if pick.chance(80) else None,
            )
            for _ in range(pick.number(1, 2))
        ]
        reports.append(
            objects.Report(
                report_specifier_id=pick.identifier("RS"),
                report_name=pick.one(("TELEMETRY_USAGE", "TELEMETRY_STATUS", "HISTORY_USAGE")),
                report_request_id=None,
                report_descriptions=descriptions,
                created_date_time=pick.moment(),
                duration=pick.duration(),
            )
        )
    return {**_request(pick), "reports": reports}


def _update_report(pick: Picker) -> dict[str, Any]:
    name = pick.one(("TELEMETRY_USAGE", "TELEMETRY_USAGE", "HISTORY_USAGE"))
    start, step = pick.moment(), pick.duration()
    intervals = [
        objects.ReportInterval(
            dtstart=start + number * step,
            duration=step if pick.chance(50) else None,
            report_payload=objects.ReportPayload(
                r_id=pick.identifier("r"),
                value=pick.number(0, 80_000) / 10,
                confidence=100 if pick.chance(40) else None,
                accuracy=pick.one((0, 100, 100)) if pick.chance(40) else None,
            ),
        )
        for number in range(pick.number(1, 4))
    ]
    report = objects.Report(
        report_specifier_id=pick.identifier("RS"),
        report_name=name,
        report_request_id=pick.identifier("RR"),
        created_date_time=pick.moment(),
        dtstart=start if pick.chance(70) else None,
        intervals=intervals,
    )
    for interval in report.intervals:
        if pick.chance(40):
            interval.report_payload.data_quality = "Quality Good - Non Specific"
    return {**_request(pick), "reports": [{**asdict(report), "report_id": pick.identifier("RE")}]}


_SIGNALS: Final = (
    ("SIMPLE", "level"),
    ("SIMPLE", "level"),
    ("simple", "level"),
    ("ELECTRICITY_PRICE", "price"),
    ("ENERGY_PRICE", "price"),
    ("LOAD_DISPATCH", "setpoint"),
    ("LOAD_DISPATCH", "delta"),
    ("LOAD_CONTROL", "x-loadControlCapacity"),
    ("LOAD_CONTROL", "x-loadControlSetpoint"),
    ("BID_LOAD", "setpoint"),
    ("CHARGE_STATE", "setpoint"),
)


def _signal(pick: Picker, active: objects.ActivePeriod, count: int) -> objects.EventSignal:
    name, kind = pick.one(_SIGNALS)
    with_start = pick.chance(40)
    step = active.duration / count
    level = name.upper() == "SIMPLE"
    return objects.EventSignal(
        intervals=[
            objects.Interval(
                dtstart=active.dtstart + number * step if with_start else None,
                duration=step,
                signal_payload=pick.number(0, 3) if level else pick.number(0, 9000) / 10,
            )
            for number in range(count)
        ],
        signal_name=name,
        signal_type=kind,
        signal_id=pick.identifier("SIG"),
        current_value=0.0 if pick.chance(60) else None,
        measurement=_measurement(pick) if name.startswith("LOAD") and pick.chance(50) else None,
    )


def _event(pick: Picker) -> objects.Event:
    optional = pick.chance(65)

    def minutes() -> timedelta:
        return timedelta(minutes=pick.one((0, 0, 0, 1, 5, 10, 30)))

    active = objects.ActivePeriod(
        dtstart=pick.moment(),
        duration=pick.number(1, 8) * timedelta(minutes=30),
        tolerance={"startafter": minutes()} if optional else None,
        notification_period=minutes() if optional else None,
        ramp_up_period=minutes() if optional else None,
        recovery_period=minutes() if optional else None,
    )
    count = pick.one((1, 1, 2, 3))
    signals = [_signal(pick, active, count) for _ in range(pick.one((1, 1, 2)))]
    event = objects.Event(
        event_descriptor=objects.EventDescriptor(
            event_id=pick.identifier("event"),
            modification_number=pick.one((0, 0, 0, 1)),
            modification_date_time=pick.moment(),
            priority=pick.one((0, 0, 1)),
            market_context=pick.one(("http://MarketContext1", "http://market.example/flex")),
            created_date_time=pick.moment(),
            event_status="far",
            test_event=False,
            vtn_comment=pick.one((None, "", "comment")),
        ),
        event_signals=signals,
        active_period=active,
        targets=[
            objects.Target(
                ven_id=_ven(pick) if pick.chance(75) else None,
                resource_id=pick.identifier("resource") if pick.chance(40) else None,
                group_id=pick.identifier("group") if pick.chance(30) else None,
            )
        ],
        response_required=pick.one(("always", "always", "never")),
    )
    # openleadr takes it from the clock.
    event.event_descriptor.event_status = pick.one(
        ("far", "far", "near", "active", "completed", "cancelled")
    )
    if pick.chance(50):
        event.event_descriptor.modification_date_time = None
    return event


def _distribute_event(pick: Picker) -> dict[str, Any]:
    return {
        "response": _ok(pick) if pick.chance(75) else None,
        "request_id": pick.identifier("REQ"),
        "vtn_id": pick.identifier("VTN"),
        "events": [_event(pick) for _ in range(pick.one((1, 1, 1, 2)))],
    }


def _created_event(pick: Picker) -> dict[str, Any]:
    answers = [
        {
            **_ok(pick),
            "event_id": pick.identifier("event"),
            "modification_number": pick.one((0, 0, 1)),
            "opt_type": pick.one(enums.OPT.values),
        }
        for _ in range(pick.number(1, 2))
    ]
    return {**_response(pick), "event_responses": answers}


def _create_opt(pick: Picker) -> dict[str, Any]:
    for_event = pick.chance(50)
    opt: dict[str, Any] = {
        **_request(pick),
        "opt_id": pick.identifier("OPT"),
        "opt_type": pick.one(enums.OPT.values),
        "opt_reason": pick.one(enums.OPT_REASON.values),
        "created_date_time": pick.moment(),
        "targets": [{"ven_id": _ven(pick)}],
    }
    if for_event:
        opt |= {"event_id": pick.identifier("event"), "modification_number": 0}
    else:
        opt["vavailability"] = {
            "components": [{"dtstart": pick.moment(), "duration": pick.duration()}]
        }
        opt["market_context"] = "http://MarketContext1"
    return opt


def _request_event(pick: Picker) -> dict[str, Any]:
    return {**_request(pick), "reply_limit": pick.number(1, 99) if pick.chance(50) else None}


_Kinds = dict[str, Callable[[Picker], dict[str, Any]]]

_DOWNLINK: Final[_Kinds] = {
    "oadrDistributeEvent": _distribute_event,
    "oadrCreatedPartyRegistration": _registered,
    "oadrRegisteredReport": _registered_report,
    "oadrCreateReport": _create_report,
    "oadrResponse": _plain_response,
    "oadrUpdatedReport": _updated_report,
    "oadrCancelReport": _cancel_report,
    "oadrCancelPartyRegistration": _registration_request,
    "oadrCanceledPartyRegistration": _registration_response,
    "oadrRequestReregistration": _request,
    "oadrRegisterReport": _register_report,
    "oadrCreatedOpt": _opt_response,
    "oadrCanceledOpt": _opt_response,
}

_UPLINK: Final[_Kinds] = {
    "oadrUpdateReport": _update_report,
    "oadrRegisterReport": _register_report,
    "oadrCreatedEvent": _created_event,
    "oadrCreateOpt": _create_opt,
    "oadrCancelOpt": _cancel_opt,
    "oadrCreatedReport": _pending_reports,
    "oadrCanceledReport": _pending_reports,
    "oadrCreatePartyRegistration": _create_registration,
    "oadrQueryRegistration": _request,
    "oadrPoll": _request,
    "oadrRequestEvent": _request_event,
    "oadrResponse": _plain_response,
    "oadrCancelPartyRegistration": _registration_request,
    "oadrCanceledPartyRegistration": _registration_response,
}
