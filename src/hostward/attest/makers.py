"""Makers of TPMs by the identifier in their EK certificates (TCG TPM Vendor ID Registry)."""

from __future__ import annotations

_MAKERS = {
    "AMD": "AMD",
    "ANT": "Ant Group",
    "ATML": "Atmel",
    "BRCM": "Broadcom",
    "CSCO": "Cisco",
    "FLYS": "Flyslice Technologies",
    "GOOG": "Google",
    "HISI": "HiSilicon",
    "HPE": "HPE",
    "HPI": "HPI",
    "IBM": "IBM",
    "IFX": "Infineon",
    "INTC": "Intel",
    "LEN": "Lenovo",
    "MSFT": "Microsoft",
    "NSG": "NSING Technologies",
    "NSM": "National Semiconductor",
    "NTC": "Nuvoton Technology",
    "NTZ": "Nationz",
    "QCOM": "Qualcomm",
    "ROCC": "Fuzhou Rockchip",
    "SEAL": "Wisekey",
    "SECE": "Wisekey",
    "SIM0": "Simulator 0",
    "SIM1": "Simulator 1",
    "SIM2": "Simulator 2",
    "SIM3": "Simulator 3",
    "SIM4": "Simulator 4",
    "SIM5": "Simulator 5",
    "SIM6": "Simulator 6",
    "SIM7": "Simulator 7",
    "SMSC": "SMSC",
    "SMSN": "Samsung",
    "SNS": "Sinosun",
    "STM": "STMicroelectronics",
    "TXN": "Texas Instruments",
    "WEC": "Winbond",
}


def maker_name(identifier: str) -> str:
    """`id:494E5443` by its name, or the identifier where nobody registered it."""
    digits = identifier.removeprefix("id:")
    try:
        letters = bytes.fromhex(digits).rstrip(b"\0 ").decode("ascii")
    except (ValueError, UnicodeDecodeError):
        return identifier
    if letters in _MAKERS:
        return f"{_MAKERS[letters]} ({identifier})"
    return f"{letters} ({identifier})" if letters.isprintable() and letters else identifier
