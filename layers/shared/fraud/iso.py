"""Codes of countries (ISO 3166-1 alpha-2) and of currencies (ISO 4217), as they stood in 2026."""

from pydantic_core import PydanticCustomError

_COUNTRIES = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC
CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD
GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH
KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW
MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC
SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY
UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW XK
"""
COUNTRIES = frozenset(_COUNTRIES.split())
"""The officially assigned codes, and XK, by which payment systems name Kosovo."""

DIGITS: dict[str, int] = {
    code: digits
    for digits, codes in {
        0: """
BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF
""",
        2: """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP
CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS
KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD
PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP
TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
""",
        3: """
BHD IQD JOD KWD LYD OMR TND
""",
    }.items()
    for code in codes.split()
}
"""Currencies in circulation, with the digits of their minor unit: an amount of 100 is 1.00 with two digits."""


def country(value: str) -> str:
    """Return a country's code unchanged. Raises PydanticCustomError `country` for any other text.

    >>> country("JP")
    'JP'
    """
    if value not in COUNTRIES:
        raise PydanticCustomError("country", "must be a code of ISO 3166-1 alpha-2, in upper case")
    return value


def currency(value: str) -> str:
    """Return a currency's code unchanged. Raises PydanticCustomError `currency` for any other text.

    >>> currency("INR"), DIGITS["INR"], DIGITS["JPY"]
    ('INR', 2, 0)
    """
    if value not in DIGITS:
        raise PydanticCustomError("currency", "must be a code of ISO 4217, in upper case")
    return value
