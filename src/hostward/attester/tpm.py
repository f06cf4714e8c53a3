"""A TPM as far as attestation uses it, through the TSS's ESAPI.

Whatever a command left in the TPM is flushed, on errors too: a TPM has room for three objects, and not every host has a
resource manager before it. An error says which command it was, and the TPM's own words.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hostward.attest.algorithms import HASHES, Hash
from hostward.attest.public import Attribute, parse_public
from hostward.errors import TpmError

# The library has no types: modules, structures and handles (ESYS_TR) alike.
Library = Any
Structure = Any
Handle = Any
_TRANSIENT, _LOADED_SESSIONS = 0x80000000, 0x02000000
_MOST_HANDLES = 254
_NV_CHUNK = 512  # what the PC Client profile lets every TPM read at once
_CONNECTION = 10  # the layer of TSS2_RC that speaks of the way to the TPM, not of the TPM


def library() -> Library:
    """`tpm2_pytss`, imported when a TPM is used first. Raises TpmError naming the extra."""
    os.environ.setdefault("TSS2_LOG", "all+NONE")  # it would write to standard error what is in the exception anyway
    try:
        import tpm2_pytss
    except (ImportError, RuntimeError, NotImplementedError) as error:
        raise TpmError(
            f"the TPM's library cannot be loaded: {error}",
            hint="pip install 'hostward[tpm]'; it needs the packages libtss2-dev, pkg-config, gcc and python3-dev",
        ) from error
    return tpm2_pytss


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A key in the TPM. ``public`` is TPM2B_PUBLIC; ``name`` the hash that it is known by."""

    handle: Handle
    public: bytes
    name: bytes
    by_policy: bool  # whether its use needs PolicySecret of the endorsement hierarchy, not an empty password
    transient: bool


class Tpm:
    """One connection, for one thread. What an earlier process of ours left in a TPM without a manager is flushed first."""

    def __init__(self, tcti: str) -> None:
        self._tcti = tcti
        self._library = library()
        with self.command("connecting to the TPM"):
            self._esapi = self._library.ESAPI(tcti)
        try:
            for handle in (*self.handles(_TRANSIENT), *self.handles(_LOADED_SESSIONS)):
                with self.command("TPM2_FlushContext of what was left"):
                    self._esapi.flush_context(self._esapi.tr_from_tpmpublic(handle))
        except TpmError:
            self.close()
            raise

    def close(self) -> None:
        """End the connection."""
        self._esapi.close()

    @contextmanager
    def command(self, name: str) -> Iterator[None]:
        """Errors of the library become TpmError with the command's name."""
        try:
            yield
        except self._library.TSS2_Exception as error:
            code = int(error.rc)
            hint = "is the TPM there, and may this process open it?" if code >> 16 == _CONNECTION else ""
            raise TpmError(f"{name}: {error}", code=code, subject=self._tcti, hint=hint) from error

    def handles(self, first: int) -> list[int]:
        """What lies in the TPM from this handle on, of the same kind."""
        with self.command("TPM2_GetCapability"):
            _, found = self._esapi.get_capability(self._library.TPM2_CAP.HANDLES, first, _MOST_HANDLES)
        return [int(each) for each in found.data.handles]

    def read_nv(self, index: int) -> bytes:
        """The content of an NV index that anyone may read. Raises TpmError."""
        with self.command(f"TPM2_NV_Read of {index:#x}"):
            handle = self._esapi.tr_from_tpmpublic(index)
            try:
                area = self._esapi.nv_read_public(handle)[0].nvPublic
                by_itself = int(area.attributes) & int(self._library.TPMA_NV.AUTHREAD)
                who = handle if by_itself else self._library.ESYS_TR.OWNER
                size, content = int(area.dataSize), b""
                while len(content) < size:
                    chunk = min(_NV_CHUNK, size - len(content))
                    content += bytes(self._esapi.nv_read(handle, chunk, len(content), auth_handle=who))
            finally:
                self._esapi.tr_close(handle)
        return content

    def define_nv(self, index: int, content: bytes) -> None:
        """Give the owner's NV memory an index that anyone may read, with this content. Raises TpmError."""
        types = self._library
        attributes = types.TPMA_NV.OWNERWRITE | types.TPMA_NV.OWNERREAD | types.TPMA_NV.AUTHREAD | types.TPMA_NV.NO_DA
        area = types.TPMS_NV_PUBLIC(
            nvIndex=index, nameAlg=types.TPM2_ALG.SHA256, attributes=attributes, dataSize=len(content)
        )
        with self.command(f"TPM2_NV_DefineSpace of {index:#x}"):
            handle = self._esapi.nv_define_space(None, types.TPM2B_NV_PUBLIC(nvPublic=area))
        with self.command(f"TPM2_NV_Write of {index:#x}"):
            for at in range(0, len(content), _NV_CHUNK):
                chunk = content[at : at + _NV_CHUNK]
                self._esapi.nv_write(handle, chunk, at, auth_handle=types.ESYS_TR.OWNER)

    def banks(self, pcr: int) -> list[Hash]:
        """Banks whose hash is known here and in which this PCR is. Raises TpmError."""
        with self.command("TPM2_GetCapability of PCRs"):
            _, found = self._esapi.get_capability(self._library.TPM2_CAP.PCRS, 0, _MOST_HANDLES)
        active: list[Hash] = []
        for each in found.data.assignedPCR:
            bits = int.from_bytes(bytes(each.pcrSelect), "little")
            if bits >> pcr & 1 and int(each.hash) in HASHES:
                active.append(HASHES[int(each.hash)])
        return active

    def read_pcr(self, bank: Hash, pcr: int) -> bytes:
        """What a PCR holds. Raises TpmError."""
        with self.command(f"TPM2_PCR_Read of {bank.name}:{pcr}"):
            values = self._esapi.pcr_read(self._selection(bank, (pcr,)))[2]
        if len(values) != 1:
            raise TpmError(f"there is no PCR {pcr} in the {bank.name} bank", subject=self._tcti)
        return bytes(values[0])

    def extend(self, pcr: int, digests: Mapping[Hash, bytes]) -> None:
        """Extend a PCR in all of these banks by one command. Raises TpmError."""
        values = len(digests).to_bytes(4, "big") + b"".join(
            bank.algorithm.to_bytes(2, "big") + digest for bank, digest in digests.items()
        )
        with self.command(f"TPM2_PCR_Extend of {pcr}"):
            self._esapi.pcr_extend(self._library.ESYS_TR(pcr), self._library.TPML_DIGEST_VALUES.unmarshal(values)[0])

    def reset_count(self) -> int:
        """How often the TPM was started with its PCRs at their first values."""
        with self.command("TPM2_ReadClock"):
            return int(self._esapi.read_clock().clockInfo.resetCount)

    def persistent_key(self, handle: int) -> LoadedKey:
        """A key that stays in the TPM. Raises TpmError."""
        with self.command(f"TPM2_ReadPublic of {handle:#x}"):
            at = self._esapi.tr_from_tpmpublic(handle)
            public = self._esapi.read_public(at)[0].marshal()
        return _key(at, bytes(public), transient=False)

    def create_endorsement_key(self, template: bytes) -> LoadedKey:
        """The primary key of the endorsement hierarchy that this TPMT_PUBLIC always gives. Raises TpmError."""
        with self.command("TPM2_CreatePrimary of the endorsement key"):
            handle, public, *_ = self._esapi.create_primary(
                self._library.TPM2B_SENSITIVE_CREATE(), self._public(template), self._library.ESYS_TR.ENDORSEMENT
            )
        return _key(handle, bytes(public.marshal()), transient=True)

    def create_key(self, parent: LoadedKey, template: bytes) -> tuple[bytes, bytes]:
        """A new key under a parent, wrapped: TPM2B_PUBLIC and TPM2B_PRIVATE. Raises TpmError."""
        with self._use_of(parent) as session, self.command("TPM2_Create of the attestation key"):
            private, public, *_ = self._esapi.create(
                parent.handle, self._library.TPM2B_SENSITIVE_CREATE(), self._public(template), session1=session
            )
        return bytes(public.marshal()), bytes(private.marshal())

    def load_key(self, parent: LoadedKey, public: bytes, private: bytes) -> LoadedKey:
        """Load what ``create_key`` gave. Raises TpmError."""
        with self._use_of(parent) as session, self.command("TPM2_Load of the attestation key"):
            wrapped = self._library.TPM2B_PRIVATE.unmarshal(private)[0]
            area = self._library.TPM2B_PUBLIC.unmarshal(public)[0]
            handle = self._esapi.load(parent.handle, wrapped, area, session1=session)
        return _key(handle, public, transient=True)

    def activate(self, key: LoadedKey, parent: LoadedKey, credential: bytes, secret: bytes) -> bytes:
        """TPM2_ActivateCredential of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET. Raises TpmError."""
        name = "TPM2_ActivateCredential"
        with self._use_of(parent) as session, self.command(name):
            opened = self._esapi.activate_credential(
                key.handle,
                parent.handle,
                self._library.TPM2B_ID_OBJECT.unmarshal(credential)[0],
                self._library.TPM2B_ENCRYPTED_SECRET.unmarshal(secret)[0],
                session1=self._library.ESYS_TR.PASSWORD,
                session2=session,
            )
        return bytes(opened)

    def quote(self, key: LoadedKey, bank: Hash, pcrs: Sequence[int], qualifying: bytes) -> tuple[bytes, bytes]:
        """TPMS_ATTEST and TPMT_SIGNATURE over PCRs of one bank. Raises TpmError."""
        with self.command("TPM2_Quote"):
            message, signature = self._esapi.quote(key.handle, self._selection(bank, pcrs), qualifying)
        return bytes(message), bytes(signature.marshal())

    def flush(self, key: LoadedKey) -> None:
        """Give a key's room back; a persistent one stays."""
        with self.command("TPM2_FlushContext"):
            if key.transient:
                self._esapi.flush_context(key.handle)
            else:
                self._esapi.tr_close(key.handle)

    @contextmanager
    def _use_of(self, parent: LoadedKey) -> Iterator[Handle]:
        """What authorizes the use of an EK; a policy session serves one command (EK Credential Profile, B.6.2)."""
        if not parent.by_policy:
            yield self._library.ESYS_TR.PASSWORD
            return
        types = self._library
        with self.command("TPM2_StartAuthSession"):
            none = types.ESYS_TR.NONE
            symmetric = types.TPMT_SYM_DEF(algorithm=types.TPM2_ALG.NULL)
            session = self._esapi.start_auth_session(none, none, types.TPM2_SE.POLICY, symmetric, types.TPM2_ALG.SHA256)
        try:
            with self.command("TPM2_PolicySecret of the endorsement hierarchy"):
                self._esapi.policy_secret(types.ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0)
            yield session
        finally:
            with self.command("TPM2_FlushContext"):
                self._esapi.flush_context(session)

    def _public(self, template: bytes) -> Structure:
        return self._library.TPM2B_PUBLIC.unmarshal(len(template).to_bytes(2, "big") + template)[0]

    def _selection(self, bank: Hash, pcrs: Sequence[int]) -> Structure:
        bits = sum(1 << pcr for pcr in pcrs).to_bytes(3, "little")
        one = (1).to_bytes(4, "big") + bank.algorithm.to_bytes(2, "big") + bytes((len(bits),)) + bits
        return self._library.TPML_PCR_SELECTION.unmarshal(one)[0]


def _key(handle: Handle, public: bytes, *, transient: bool) -> LoadedKey:
    read = parse_public(public)
    return LoadedKey(handle, public, read.name, not read.attributes & Attribute.USER_WITH_AUTH, transient)
