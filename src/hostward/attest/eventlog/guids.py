"""GUIDs as text, and names of those that logs are full of."""

from __future__ import annotations

import uuid

_NAMES = {
    "8be4df61-93ca-11d2-aa0d-00e098032b8c": "EFI_GLOBAL_VARIABLE",
    "d719b2cb-3d3a-4596-a3bc-dad00e67656f": "EFI_IMAGE_SECURITY_DATABASE",
    "605dab50-e046-4300-abb6-3dd810dd8b23": "SHIM_LOCK",
    "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f": "SYSTEMD_LOADER",
    "77fa9abd-0359-4d32-bd60-28f4e78f784b": "MICROSOFT",
    "eb9d2d30-2d88-11d3-9a16-0090273fc14d": "ACPI_TABLE",
    "8868e871-e4f1-11d3-bc22-0080c73c8881": "ACPI_20_TABLE",
    "eb9d2d31-2d88-11d3-9a16-0090273fc14d": "SMBIOS_TABLE",
    "f2fd1544-9794-4a2c-992e-e5bbcf20e394": "SMBIOS3_TABLE",
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI_SYSTEM_PARTITION",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "LINUX_FILESYSTEM",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "LINUX_ROOT_X86_64",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "LINUX_BOOT",
    "21686148-6449-6e6f-744e-656564454649": "BIOS_BOOT",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "LINUX_LVM",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "LINUX_SWAP",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "MICROSOFT_BASIC_DATA",
    "a5c059a1-94e4-4aa7-87b5-ab155c2bf072": "X509",
    "c1c41626-504c-4092-aca9-41f936934328": "SHA256",
    "3c5766e8-269c-4e34-aa14-ed776e85b3b6": "RSA2048",
    "3bd2a492-96c0-4079-b420-fcf98ef103ed": "X509_SHA256",
    "7076876e-80c2-4ee6-aad2-28b349a6865b": "X509_SHA384",
    "446dbf63-2502-4cda-bcfa-2465d2b0fe9d": "X509_SHA512",
    "ff3e5307-9fd0-48c9-85f1-8ad56c701e01": "SHA384",
    "093e0fae-a6c4-4f50-9f1b-d41e2b89c19a": "SHA512",
    "826ca512-cf10-4ac9-b187-be01496631bd": "SHA1",
}


def guid_text(data: bytes) -> str:
    """Sixteen bytes as UEFI writes them: the first three fields are little-endian."""
    return str(uuid.UUID(bytes_le=data))


def guid_name(data: bytes) -> str:
    """A GUID's name, or its text."""
    text = guid_text(data)
    return _NAMES.get(text, text)
