//! Names of what signatures can look at inside a transaction.
//!
//! Some of them are not text of the protocol:
//! * `DcerpcInterface`: UUID (16 bytes in the order it is written in), major and minor version (2 bytes each, big
//!   endian), and a byte that is 1 where the request began with its first fragment. It is there once for each direction.
//! * `DcerpcLittleEndian` is 1 or 0, the byte order that `dce` in `byte_test` and `byte_jump` means.
//! * `FtpPortAddress`: the address of PORT or EPRT, 4 or 16 bytes; `ftpbounce` matches where it is not the client's.
//! * `FtpMode` is 0 for active, 1 for passive; `FtpDataCommand` 1 for RETR, 2 for what uploads; `FtpReplyReceived` 1 once
//!   there is a reply.
//! * `Http2Settings`: the setting's number in the upper 32 bits, its value in the lower.

use super::Stage::{self, Body, Complete, Headers, Line};
use crate::Direction::{self, ToClient, ToServer};

macro_rules! buffers {
    ($($variant:ident, $name:literal, $legacy:literal, $direction:expr, $stage:expr;)*) => {
        /// Bytes of a transaction, by the name of the sticky buffer that selects them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Buffer { $($variant),* }

        impl Buffer {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The sticky buffer's keyword.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The keyword of old, a modifier of the content before it, or a second sticky name; empty if there is none.
            #[must_use]
            pub fn legacy_name(self) -> &'static str {
                match self { $(Self::$variant => $legacy),* }
            }

            /// The only direction it is read in, or `None` for both.
            #[must_use]
            pub fn direction(self) -> Option<Direction> {
                match self { $(Self::$variant => $direction),* }
            }

            /// Once its direction has come so far, it is complete, or known to be absent.
            #[must_use]
            pub fn stage(self) -> Stage {
                match self { $(Self::$variant => $stage),* }
            }
        }
    };
}

macro_rules! integers {
    ($($variant:ident, $name:literal;)*) => {
        /// A number of a transaction, by the keyword that compares it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Integer { $($variant),* }

        impl Integer {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The keyword.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

buffers! {
    HttpUri, "http.uri", "http_uri", Some(ToServer), Line;
    HttpRawUri, "http.uri.raw", "http_raw_uri", Some(ToServer), Line;
    HttpMethod, "http.method", "http_method", Some(ToServer), Line;
    HttpRequestLine, "http.request_line", "http_request_line", Some(ToServer), Line;
    HttpProtocol, "http.protocol", "http_protocol", None, Line;
    HttpHost, "http.host", "http_host", Some(ToServer), Headers;
    HttpRawHost, "http.host.raw", "http_raw_host", Some(ToServer), Headers;
    HttpHeader, "http.header", "http_header", None, Headers;
    HttpRawHeader, "http.header.raw", "http_raw_header", None, Headers;
    HttpHeaderNames, "http.header_names", "http_header_names", None, Headers;
    HttpRequestHeader, "http.request_header", "http_request_header", Some(ToServer), Headers;
    HttpResponseHeader, "http.response_header", "http_response_header", Some(ToClient), Headers;
    HttpCookie, "http.cookie", "http_cookie", None, Headers;
    HttpUserAgent, "http.user_agent", "http_user_agent", Some(ToServer), Headers;
    HttpReferer, "http.referer", "http_referer", Some(ToServer), Headers;
    HttpAccept, "http.accept", "http_accept", Some(ToServer), Headers;
    HttpAcceptLang, "http.accept_lang", "http_accept_lang", Some(ToServer), Headers;
    HttpAcceptEnc, "http.accept_enc", "http_accept_enc", Some(ToServer), Headers;
    HttpConnection, "http.connection", "http_connection", None, Headers;
    HttpContentType, "http.content_type", "http_content_type", None, Headers;
    HttpContentLen, "http.content_len", "http_content_len", None, Headers;
    HttpStart, "http.start", "http_start", None, Headers;
    HttpRequestBody, "http.request_body", "http_client_body", Some(ToServer), Complete;
    HttpStatCode, "http.stat_code", "http_stat_code", Some(ToClient), Line;
    HttpStatMsg, "http.stat_msg", "http_stat_msg", Some(ToClient), Line;
    HttpResponseLine, "http.response_line", "http_response_line", Some(ToClient), Line;
    HttpResponseBody, "http.response_body", "http_server_body", Some(ToClient), Complete;
    HttpServer, "http.server", "http_server", Some(ToClient), Headers;
    HttpLocation, "http.location", "http_location", Some(ToClient), Headers;
    HttpRequestFrame, "frame:http1.request", "", Some(ToServer), Complete;
    HttpResponseFrame, "frame:http1.response", "", Some(ToClient), Complete;
    Http2HeaderName, "http2.header_name", "http2_header_name", None, Headers;
    Http2Header, "http2.header", "http2_header", None, Headers;
    DnsQuery, "dns.query", "dns_query", Some(ToServer), Complete;
    DnsQueriesRrname, "dns.queries.rrname", "", None, Complete;
    DnsAnswersRrname, "dns.answers.rrname", "", Some(ToClient), Complete;
    DnsAuthoritiesRrname, "dns.authorities.rrname", "", Some(ToClient), Complete;
    DnsAdditionalsRrname, "dns.additionals.rrname", "", None, Complete;
    DnsResponseRrname, "dns.response.rrname", "", Some(ToClient), Complete;
    TlsSni, "tls.sni", "tls_sni", Some(ToServer), Headers;
    TlsCerts, "tls.certs", "tls_certs", Some(ToClient), Headers;
    TlsCertSubject, "tls.cert_subject", "tls_cert_subject", Some(ToClient), Headers;
    TlsCertIssuer, "tls.cert_issuer", "tls_cert_issuer", Some(ToClient), Headers;
    TlsCertSerial, "tls.cert_serial", "tls_cert_serial", Some(ToClient), Headers;
    TlsCertFingerprint, "tls.cert_fingerprint", "tls_cert_fingerprint", Some(ToClient), Headers;
    TlsSubjectAltName, "tls.subjectaltname", "", Some(ToClient), Headers;
    TlsAlpn, "tls.alpn", "", None, Headers;
    TlsRandom, "tls.random", "", None, Headers;
    TlsRandomTime, "tls.random_time", "", None, Headers;
    TlsRandomBytes, "tls.random_bytes", "", None, Headers;
    Ja3Hash, "ja3.hash", "ja3_hash", Some(ToServer), Headers;
    Ja3String, "ja3.string", "ja3_string", Some(ToServer), Headers;
    Ja3sHash, "ja3s.hash", "", Some(ToClient), Headers;
    Ja3sString, "ja3s.string", "", Some(ToClient), Headers;
    Ja4Hash, "ja4.hash", "", Some(ToServer), Headers;
    SmtpHelo, "smtp.helo", "", Some(ToServer), Headers;
    SmtpMailFrom, "smtp.mail_from", "", Some(ToServer), Headers;
    SmtpRcptTo, "smtp.rcpt_to", "", Some(ToServer), Headers;
    EmailFrom, "email.from", "", Some(ToServer), Complete;
    EmailTo, "email.to", "", Some(ToServer), Complete;
    EmailCc, "email.cc", "", Some(ToServer), Complete;
    EmailSubject, "email.subject", "", Some(ToServer), Complete;
    EmailDate, "email.date", "", Some(ToServer), Complete;
    EmailMessageId, "email.message_id", "", Some(ToServer), Complete;
    EmailXMailer, "email.x_mailer", "", Some(ToServer), Complete;
    EmailReceived, "email.received", "", Some(ToServer), Complete;
    EmailUrl, "email.url", "", Some(ToServer), Complete;
    EmailBodyMd5, "email.body_md5", "", Some(ToServer), Complete;
    FtpCommand, "ftp.command", "", Some(ToServer), Complete;
    FtpCommandData, "ftp.command_data", "", Some(ToServer), Complete;
    FtpReply, "ftp.reply", "", Some(ToClient), Complete;
    FtpCompletionCode, "ftp.completion_code", "", Some(ToClient), Complete;
    FtpPortAddress, "ftpbounce", "", Some(ToServer), Complete;
    SshProto, "ssh.proto", "ssh_proto", None, Headers;
    SshSoftware, "ssh.software", "ssh_software", None, Headers;
    SshHassh, "ssh.hassh", "", Some(ToServer), Complete;
    SshHasshString, "ssh.hassh.string", "", Some(ToServer), Complete;
    SshHasshServer, "ssh.hassh.server", "", Some(ToClient), Complete;
    SshHasshServerString, "ssh.hassh.server.string", "", Some(ToClient), Complete;
    DcerpcStubData, "dcerpc.stub_data", "dce_stub_data", None, Complete;
    DcerpcInterface, "dcerpc.iface", "dce_iface", None, Complete;
    SmbNamedPipe, "smb.named_pipe", "smb_named_pipe", Some(ToServer), Complete;
    SmbShare, "smb.share", "smb_share", Some(ToServer), Complete;
    SmbNtlmsspUser, "smb.ntlmssp_user", "", Some(ToServer), Complete;
    SmbNtlmsspDomain, "smb.ntlmssp_domain", "", Some(ToServer), Complete;
    FileData, "file.data", "file_data", None, Body;
    FileName, "file.name", "", None, Body;
}

integers! {
    DnsOpcode, "dns.opcode";
    DnsRcode, "dns.rcode";
    DnsRrtype, "dns.rrtype";
    DcerpcOpnum, "dcerpc.opnum";
    TlsVersion, "tls.version";
    SmbVersion, "smb.version";
    Http2FrameType, "http2.frametype";
    Http2Priority, "http2.priority";
    Http2Window, "http2.window";
    Http2SizeUpdate, "http2.size_update";
    Http2ErrorCode, "http2.errorcode";
    FtpDynamicPort, "ftp.dynamic_port";
    FtpMode, "ftp.mode";
    FtpReplyReceived, "ftp.reply_received";
    FtpDataCommand, "ftpdata_command";
    DcerpcLittleEndian, "dcerpc.little_endian";
    Http2Settings, "http2.settings";
    TlsCertChainLen, "tls.cert_chain_len";
    TlsCertNotBefore, "tls_cert_notbefore";
    TlsCertNotAfter, "tls_cert_notafter";
}
