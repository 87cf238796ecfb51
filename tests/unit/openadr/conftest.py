"""OpenADR payloads for the tests of both faces, made by openleadr and checked by its schema."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from openleadr import objects
from openleadr.messaging import create_message, validate_xml_schema

from openadr_xml import Payload, parse_untrusted_payload

START = datetime(2026, 11, 21, 18, tzinfo=UTC)


def make(kind: str, **content: Any) -> bytes:
    text = create_message(kind, cert=None, key=None, **content)
    validate_xml_schema(text)
    return text.encode()


def ok(request_id: str = "r1", code: int = 200) -> dict[str, Any]:
    return {"response_code": code, "response_description": "OK", "request_id": request_id}


class Messages:
    """Makes payloads with short names for what the tests vary."""

    def registration(self, request_id: str = "r1", **more: Any) -> bytes:
        content: dict[str, Any] = {
            "request_id": request_id,
            "profile_name": "2.0b",
            "transport_name": "simpleHttp",
            "transport_address": "",
            "report_only": False,
            "xml_signature": False,
            "ven_name": "cem",
            "http_pull_model": True,
        }
        return make("oadrCreatePartyRegistration", **(content | more))

    def registered(
        self, request_id: str = "r1", ven_id: str = "VEN1", registration_id: str = "REG1"
    ) -> bytes:
        return make(
            "oadrCreatedPartyRegistration",
            response=ok(request_id),
            ven_id=ven_id,
            registration_id=registration_id,
            vtn_id="VTN",
            profiles=[{"profile_name": "2.0b", "transports": [{"transport_name": "simpleHttp"}]}],
            requested_oadr_poll_freq=timedelta(seconds=30),
        )

    def query(self, request_id: str = "r1") -> bytes:
        return make("oadrQueryRegistration", request_id=request_id)

    def poll(self, ven_id: str = "VEN1") -> bytes:
        return make("oadrPoll", ven_id=ven_id)

    def response(self, request_id: str | None = "r1", code: int = 200) -> bytes:
        return make(
            "oadrResponse",
            response={
                "response_code": code,
                "response_description": "said",
                "request_id": request_id,
            },
            ven_id="VEN1",
        )

    def request_event(self, request_id: str = "r1", ven_id: str = "VEN1") -> bytes:
        return make("oadrRequestEvent", request_id=request_id, ven_id=ven_id)

    def event(
        self,
        event_id: str = "E1",
        modification: int = 0,
        answers: str = "None",
        request_id: str = "v1",
    ) -> bytes:
        event = objects.Event(
            event_descriptor=objects.EventDescriptor(
                event_id=event_id,
                modification_number=modification,
                modification_date_time=START,
                priority=1,
                market_context="http://market.example",
                created_date_time=START,
                event_status="far",
                test_event=False,
                vtn_comment="",
            ),
            event_signals=[
                objects.EventSignal(
                    intervals=[
                        objects.Interval(
                            dtstart=START, duration=timedelta(hours=1), signal_payload=1000.0
                        )
                    ],
                    signal_name="LOAD_CONTROL",
                    signal_type="x-loadControlSetpoint",
                    signal_id="s",
                )
            ],
            targets=[objects.Target(ven_id="VEN1")],
            response_required="always",
        )
        return make(
            "oadrDistributeEvent",
            vtn_id="VTN",
            request_id=request_id,
            response=ok(answers),
            events=[event],
        )

    def created_event(
        self, event_id: str = "E1", modification: int = 0, request_id: str = "v1"
    ) -> bytes:
        return make(
            "oadrCreatedEvent",
            response=ok(request_id),
            ven_id="VEN1",
            event_responses=[
                {
                    **ok(request_id),
                    "event_id": event_id,
                    "modification_number": modification,
                    "opt_type": "optIn",
                }
            ],
        )

    def register_report(self, request_id: str = "r1", made: datetime = START) -> bytes:
        offer = objects.Report(
            report_specifier_id="spec",
            report_name="METADATA_TELEMETRY_USAGE",
            created_date_time=made,
            report_descriptions=[],
        )
        return make("oadrRegisterReport", request_id=request_id, ven_id="VEN1", reports=[offer])

    def registered_report(self, request_id: str = "r1") -> bytes:
        return make(
            "oadrRegisteredReport", response=ok(request_id), report_requests=[], ven_id="VEN1"
        )

    def update_report(
        self, request_id: str = "r1", report: str = "RR1", ven_id: str = "VEN1"
    ) -> bytes:
        values = objects.Report(
            report_request_id=report,
            report_specifier_id="spec",
            report_name="TELEMETRY_USAGE",
            created_date_time=START,
            intervals=[
                objects.ReportInterval(
                    dtstart=START, report_payload=objects.ReportPayload(r_id="p", value=1.0)
                )
            ],
        )
        return make("oadrUpdateReport", request_id=request_id, ven_id=ven_id, reports=[values])

    def updated_report(
        self, request_id: str = "r1", code: int = 200, cancels: str | None = None
    ) -> bytes:
        text = make("oadrUpdatedReport", response=ok(request_id, code), ven_id="VEN1")
        if cancels is None:
            return text
        # openleadr cannot make one that cancels.
        inner = make(
            "oadrCancelReport", request_id="c1", report_request_id=cancels, report_to_follow=False
        )
        start = inner.index(b"<oadr:oadrCancelReport")
        end = inner.index(b"</oadr:oadrCancelReport>") + len(b"</oadr:oadrCancelReport>")
        place = text.index(b"</ei:eiResponse>") + len(b"</ei:eiResponse>")
        whole = text[:place] + inner[start:end] + text[place:]
        validate_xml_schema(whole)
        return whole

    def create_report(self, report: str = "RR1", request_id: str = "c1") -> bytes:
        wish = objects.ReportRequest(
            report_request_id=report,
            report_specifier=objects.ReportSpecifier(
                report_specifier_id="spec",
                granularity=timedelta(minutes=15),
                report_back_duration=timedelta(minutes=15),
                specifier_payloads=[objects.SpecifierPayload(r_id="p", reading_type="Direct Read")],
            ),
        )
        return make(
            "oadrCreateReport", request_id=request_id, ven_id="VEN1", report_requests=[wish]
        )

    def cancel_report(self, report: str = "RR1", request_id: str = "c1") -> bytes:
        return make(
            "oadrCancelReport",
            request_id=request_id,
            report_request_id=report,
            report_to_follow=False,
            ven_id="VEN1",
        )

    def canceled_report(self, request_id: str = "c1") -> bytes:
        return make(
            "oadrCanceledReport",
            response=ok(request_id),
            pending_reports=[{"report_request_id": "RR1"}],
            ven_id="VEN1",
        )

    def reregister(self) -> bytes:
        return make("oadrRequestReregistration", ven_id="VEN1")

    def cancel_registration(self, request_id: str = "r1") -> bytes:
        return make(
            "oadrCancelPartyRegistration",
            request_id=request_id,
            registration_id="REG1",
            ven_id="VEN1",
        )

    def canceled_registration(self, request_id: str = "r1") -> bytes:
        return make(
            "oadrCanceledPartyRegistration",
            response=ok(request_id),
            registration_id="REG1",
            ven_id="VEN1",
        )


@pytest.fixture(scope="session")
def xml() -> Messages:
    return Messages()


@pytest.fixture(scope="session")
def read() -> Callable[[bytes], Payload]:
    """Read a payload; it is checked against the schema that openleadr ships as well."""

    def checked(octets: bytes) -> Payload:
        validate_xml_schema(octets)
        return parse_untrusted_payload(octets)

    return checked
