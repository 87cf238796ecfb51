"""openadr_xml: what the compact form drops, keeps, and leaves alone."""

from __future__ import annotations

import pytest

from openadr_xml import NotCompactable, canonical, compact
from openadr_xml.namespaces import FREE_PREFIXES, PREFIXES

OADR = "http://openadr.org/oadr-2.0b/2012/07"
EI = "http://docs.oasis-open.org/ns/energyinterop/201110"
XSI = "http://www.w3.org/2001/XMLSchema-instance"


def test_layout_declaration_and_prefixes_go() -> None:
    xml = f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<ns4:oadrPayload xmlns="http://www.w3.org/2000/09/xmldsig#" xmlns:ns4="{OADR}" xmlns:ns11="{EI}">
    <ns4:oadrSignedObject>
        <ns4:oadrPoll ns11:schemaVersion="2.0b">
            <ns11:venID>ven 1</ns11:venID>
        </ns4:oadrPoll>
    </ns4:oadrSignedObject>
</ns4:oadrPayload>
"""
    assert compact(xml.encode()).decode() == (
        f'<oadr:oadrPayload xmlns:oadr="{OADR}" xmlns:ei="{EI}"><oadr:oadrSignedObject>'
        '<oadr:oadrPoll ei:schemaVersion="2.0b"><ei:venID>ven 1</ei:venID>'
        "</oadr:oadrPoll></oadr:oadrSignedObject></oadr:oadrPayload>"
    )


def test_two_spellings_become_the_same_octets() -> None:
    one = f'<oadrPoll xmlns="{OADR}">\n <a:venID xmlns:a="{EI}">1</a:venID>\n</oadrPoll>'
    other = f'<x:oadrPoll xmlns:x="{OADR}"><venID xmlns="{EI}">1</venID></x:oadrPoll>'
    assert compact(one.encode()) == compact(other.encode())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("<ei:a> </ei:a>", id="white space alone in a leaf"),
        pytest.param("<ei:a> x \n </ei:a>", id="white space around a value"),
        pytest.param("<ei:a>one <ei:b/> two</ei:a>", id="mixed content"),
        pytest.param("<ei:a>one <ei:b/> </ei:a>", id="white space in mixed content"),
        pytest.param('<ei:a xml:space="preserve"> <ei:b/> </ei:a>', id="xml:space"),
        pytest.param('<ei:a xml:space="preserve"><ei:c> <ei:b/> </ei:c></ei:a>', id="inherited"),
        pytest.param("<ei:a><!-- c --> </ei:a>", id="a comment makes no element content"),
        pytest.param("<ei:a>&#13;&#10;</ei:a>", id="a written carriage return"),
        pytest.param('<ei:a b="&#9;&#10; x"/>', id="white space in an attribute"),
        pytest.param("<ei:a>a &lt; b &amp;&amp; c ]]&gt; d</ei:a>", id="escapes"),
        pytest.param("<ei:a>Z\u00fcrich \U0001f50b</ei:a>", id="beyond ASCII"),
        pytest.param("<ei:a>\u00a0<ei:b/></ei:a>", id="a no-break space is not white space of XML"),
    ],
)
def test_content_stays(content: str) -> None:
    xml = f'<ei:root xmlns:ei="{EI}" xmlns:unused="{OADR}">{content}</ei:root>'
    start = f'<ei:root xmlns:ei="{EI}">'
    small = compact(f"<?xml version='1.0'?>\n{xml}".encode()).decode()
    assert small.startswith(start)
    kept = small.removeprefix(start).removesuffix("</ei:root>")
    written = content.replace("&#13;&#10;", "&#13;\n")
    assert kept == written


def test_xml_space_default_ends_preserve() -> None:
    xml = '<a xml:space="preserve"> <b xml:space="default"> <c/> </b> </a>'
    assert compact(xml.encode()).decode() == (
        '<a xml:space="preserve"> <b xml:space="default"><c/></b> </a>'
    )


def test_cdata_is_text() -> None:
    assert compact(b"<a><b>  <![CDATA[<&>]]></b></a>") == b"<a><b>  &lt;&amp;&gt;</b></a>"


def test_comments_and_instructions_stay_in_their_order() -> None:
    xml = b"<?xml version='1.0'?>\n<!--1--> <?two 2?>\n<a>\n <!--3-->\n <b/></a>\n<?four?> <!--5-->"
    assert compact(xml) == b"<!--1--><?two 2?><a><!--3--><b/></a><?four ?><!--5-->"


def test_no_namespace_stays_no_namespace() -> None:
    xml = f'<a xmlns="{EI}">\n  <b xmlns=""><c/></b>\n</a>'
    assert compact(xml.encode()).decode() == f'<ei:a xmlns:ei="{EI}"><b><c/></b></ei:a>'


def test_a_prefix_bound_twice_is_told_apart() -> None:
    xml = f'<p:a xmlns:p="{EI}">\n <p:b xmlns:p="{OADR}"/>\n <p:c/>\n</p:a>'
    assert compact(xml.encode()).decode() == (
        f'<ei:a xmlns:oadr="{OADR}" xmlns:ei="{EI}"><oadr:b/><ei:c/></ei:a>'
    )


def test_a_prefix_in_content_keeps_its_meaning() -> None:
    xml = f'<a xmlns:xsi="{XSI}" xmlns:zz="{EI}">\n <zz:b xsi:type="zz:T"/>\n <c>zz:x</c>\n</a>'
    assert compact(xml.encode()).decode() == (
        f'<a xmlns:xsi="{XSI}" xmlns:zz="{EI}"><zz:b xsi:type="zz:T"/><c>zz:x</c></a>'
    )


def test_a_prefix_in_content_that_is_one_of_ours() -> None:
    xml = f'<p:a xmlns:p="{OADR}" xmlns:oadr="urn:else">\n <p:b>oadr:x</p:b>\n</p:a>'
    assert compact(xml.encode()).decode() == (
        f'<a:a xmlns:a="{OADR}" xmlns:oadr="urn:else"><a:b>oadr:x</a:b></a:a>'
    )


def test_what_is_no_prefix_does_not_become_one() -> None:
    xml = f'<p:a xmlns:p="{OADR}">\n <p:b>oadr:x</p:b>\n</p:a>'
    assert compact(xml.encode()).decode() == (f'<a:a xmlns:a="{OADR}"><a:b>oadr:x</a:b></a:a>')


@pytest.mark.parametrize(
    "xml",
    [
        pytest.param(f'<a xmlns="{EI}" xmlns:i="{XSI}"> <b i:type="T"/> </a>', id="default type"),
        pytest.param('<a> <p:b xmlns:p="urn:1">p:x</p:b> <p:b xmlns:p="urn:2">p:x</p:b> </a>'),
    ],
)
def test_ambiguous_content_keeps_all_declarations(xml: str) -> None:
    assert compact(xml.encode()).decode() == xml.replace("> <", "><")


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'{"objectType": "EVENT"}', id="JSON"),
        pytest.param(b"\x00\xff\xfe", id="octets"),
        pytest.param(b"<a> <b> </a>", id="not well-formed"),
        pytest.param(b"<a> <b/> </a> x", id="text behind"),
        pytest.param(b"<!DOCTYPE a>\n<a> <b/> </a>", id="DTD"),
        pytest.param(
            b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>\n<a> <b>&e;</b> </a>',
            id="external entity",
        ),
        pytest.param(b"<a> <b>&e;</b> </a>", id="undeclared entity"),
        pytest.param("<a> <b>\u00fc</b> </a>".encode("latin-1"), id="not UTF-8"),
        pytest.param(
            '<?xml version="1.0" encoding="ISO-8859-1"?>\n<a> <b>\u00fc</b> </a>'.encode(),
            id="says another encoding",
        ),
        pytest.param("<a> <b/> </a>".encode("utf-16"), id="UTF-16"),
        pytest.param(b'<?xml version="1.1"?>\n<a> <b/> </a>', id="XML 1.1"),
        pytest.param(
            b'<a> <Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/> </a>', id="signed"
        ),
        pytest.param(b'<d:Signature xmlns:d="http://www.w3.org/2000/09/xmldsig#"> <d:b/> '
                     b"</d:Signature>", id="a signature"),
        pytest.param(b"<a>" * 300 + b" <b/> " + b"</a>" * 300, id="too deep"),
    ],
)  # fmt: skip
def test_left_alone(octets: bytes) -> None:
    assert compact(octets) is octets


def test_compact_twice_is_compact_once() -> None:
    small = compact(f'<a xmlns="{EI}" xmlns:q="urn:q"> <b q:c="1"/> </a>'.encode())
    assert compact(small) == small


def test_canonical_says_why_not() -> None:
    with pytest.raises(NotCompactable, match="DTD"):
        canonical(b"<!DOCTYPE a><a/>")


def test_canonical_tells_messages_apart() -> None:
    same = {canonical(xml) for xml in (b"<a> <b/> </a>", b"<a><b></b></a>", b"\n<a><b/>\t</a>")}
    assert len(same) == 1
    different = (b"<a><b> </b></a>", b"<a>x<b/></a>", b"<a b=''/>", b"<a><!--b--></a>", b"<a/>")
    assert len({canonical(xml) for xml in different}) == len(different)


def test_prefixes_are_different() -> None:
    assert len({*PREFIXES.values(), *FREE_PREFIXES}) == len(PREFIXES) + len(FREE_PREFIXES)
