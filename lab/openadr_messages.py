"""OpenADR 2.0b messages for the demo, made afresh by openleadr's own message functions.

The story: a CEM registers, offers its reports, gets an event for an EV charger, opts in and
reports what it did. Each message is valid against the OpenADR 2.0b schema that openleadr ships.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from openleadr import objects
from openleadr.messaging import create_message, validate_xml_schema

_VTN_ID = "dsrsp-vtn"
_VEN_NAME = "home-cem"


@dataclass(frozen=True, slots=True)
class StoryMessage:
    """One message of the story.

    ``downlink`` is True from the DSRSP to the CEM; ``octets`` is the XML as openleadr wrote it.
    """

    name: str
    downlink: bool
    octets: bytes


def make_story(now: datetime, new_id: Callable[[], str]) -> list[StoryMessage]:
    """Make the messages of one session, in order.

    Args:
        now: an aware time; the event starts 30 minutes later.
        new_id: gives a fresh identifier each time it is called.
    """
    ven_id, registration_id, report_id = new_id(), new_id(), new_id()
    event_id, request_id = new_id(), new_id()
    ok = {"response_code": 200, "response_description": "OK", "request_id": request_id}
    start = (now + timedelta(minutes=30)).astimezone(UTC).replace(microsecond=0)
    story: list[tuple[str, bool, dict[str, Any]]] = [
        ("oadrCreatePartyRegistration", False, _registration(new_id())),
        (
            "oadrCreatedPartyRegistration",
            True,
            {
                "response": ok,
                "registration_id": registration_id,
                "ven_id": ven_id,
                "vtn_id": _VTN_ID,
                "profiles": [
                    {"profile_name": "2.0b", "transports": [{"transport_name": "simpleHttp"}]}
                ],
                "requested_oadr_poll_freq": timedelta(seconds=10),
            },
        ),
        (
            "oadrRegisterReport",
            False,
            {"request_id": new_id(), "ven_id": ven_id, "reports": [_report_offer(report_id, now)]},
        ),
        (
            "oadrDistributeEvent",
            True,
            {
                "vtn_id": _VTN_ID,
                "request_id": new_id(),
                "response": ok,
                "events": [_charging_event(event_id, ven_id, now, start)],
            },
        ),
        (
            "oadrCreatedEvent",
            False,
            {
                "response": ok,
                "ven_id": ven_id,
                "event_responses": [
                    {
                        **ok,
                        "request_id": new_id(),
                        "event_id": event_id,
                        "modification_number": 0,
                        "opt_type": "optIn",
                    }
                ],
            },
        ),
        (
            "oadrUpdateReport",
            False,
            {
                "request_id": new_id(),
                "ven_id": ven_id,
                "reports": [_charger_report(report_id, new_id(), start)],
            },
        ),
        (
            "oadrUpdatedReport",
            True,
            {"response": ok, "cancel_report": None, "ven_id": ven_id},
        ),
    ]
    return [_make(name, downlink, payload) for name, downlink, payload in story]


def _make(name: str, downlink: bool, payload: dict[str, Any]) -> StoryMessage:
    text = create_message(name, cert=None, key=None, **payload)
    validate_xml_schema(text)
    return StoryMessage(name, downlink, text.encode("utf-8"))


def _registration(request_id: str) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "profile_name": "2.0b",
        "transport_name": "simpleHttp",
        "transport_address": "",
        "report_only": True,
        "xml_signature": False,
        "ven_name": _VEN_NAME,
        "http_pull_model": True,
    }


def _charging_event(event_id: str, ven_id: str, now: datetime, start: datetime) -> objects.Event:
    # What an EV charger may draw, half an hour each: down for the evening peak, up at night.
    watts = [7400.0, 3700.0, 1400.0, 0.0, 0.0, 1400.0, 3700.0, 7400.0]
    half_hour = timedelta(minutes=30)
    return objects.Event(
        event_descriptor=objects.EventDescriptor(
            event_id=event_id,
            modification_number=0,
            modification_date_time=now,
            priority=1,
            market_context="http://market.example/evening-peak",
            created_date_time=now,
            event_status="far",
            test_event=False,
            vtn_comment="",
        ),
        event_signals=[
            objects.EventSignal(
                intervals=[
                    objects.Interval(
                        dtstart=start + position * half_hour,
                        duration=half_hour,
                        signal_payload=value,
                    )
                    for position, value in enumerate(watts)
                ],
                signal_name="LOAD_CONTROL",
                signal_type="x-loadControlSetpoint",
                signal_id="charger-setpoint",
            )
        ],
        targets=[objects.Target(ven_id=ven_id)],
        response_required="always",
    )


def _report_offer(report_id: str, now: datetime) -> objects.Report:
    return objects.Report(
        report_specifier_id=report_id,
        report_name="METADATA_TELEMETRY_USAGE",
        created_date_time=now,
        report_descriptions=[
            objects.ReportDescription(
                r_id="charger-power",
                report_subject=objects.Target(resource_id="charger"),
                report_data_source=objects.Target(resource_id="charger"),
                report_type="usage",
                reading_type="Direct Read",
                market_context="http://market.example/evening-peak",
                sampling_rate=objects.SamplingRate(
                    min_period=timedelta(minutes=1),
                    max_period=timedelta(minutes=30),
                    on_change=False,
                ),
                measurement=objects.Measurement(
                    name="powerReal",
                    description="RealPower",
                    unit="W",
                    scale="none",
                    power_attributes=objects.PowerAttributes(hertz=50, voltage=230, ac=True),
                ),
            )
        ],
    )


def _charger_report(report_id: str, request_id: str, start: datetime) -> objects.Report:
    watts = [7380.0, 3650.0, 1380.0, 12.0, 11.0, 1395.0, 3702.0, 7391.0]
    half_hour = timedelta(minutes=30)
    return objects.Report(
        report_specifier_id=report_id,
        report_request_id=request_id,
        report_name="TELEMETRY_USAGE",
        created_date_time=start + len(watts) * half_hour,
        dtstart=start,
        duration=len(watts) * half_hour,
        intervals=[
            objects.ReportInterval(
                dtstart=start + position * half_hour,
                duration=half_hour,
                report_payload=objects.ReportPayload(r_id="charger-power", value=value),
            )
            for position, value in enumerate(watts)
        ],
    )
