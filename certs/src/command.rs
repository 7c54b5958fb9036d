//! The commands, and all that is printed about them.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the one place of this tool that talks to the person who called it"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use holdfast_certs::{
    Authority, Certificate, DEFAULT_CRL_DAYS, DEFAULT_DAYS, Error, Identity, KeyType, Kind,
    Overwrite, PairPaths, Reason, Target, Terms, TrustDomain, inspect, place_authority,
    write_certificate, write_pair,
};
use time::OffsetDateTime;

use crate::show;

const EXAMPLES: &str = "\
Examples:
  holdfast-certs init --dir pki --trust-domain example.org
  holdfast-certs issue allocator a1 --dir pki
  holdfast-certs issue relay r1 --dir pki --days 365
  holdfast-certs issue device alice/phone --dir pki --out for-alice
  holdfast-certs sign --csr pc.csr --as device:alice/pc --dir pki --out pc.pem
  holdfast-certs revoke device:alice/phone --reason key-compromise --dir pki
  holdfast-certs show pki/relay/r1.pem

Exit codes:
  0  done
  1  refused or failed; the reason is on standard error
  2  called wrongly";

/// Makes and revokes the certificates by which Holdfast's relays, allocators, devices and services
/// recognise each other.
///
/// The authority is a folder. Whoever can read its file authority.key can pretend to be anybody, so keep
/// it on a machine of its own; all other programs need is authority.pem and revoked.crl from it, and a
/// pair of certificate and key for themselves.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(crate) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Init(Init),
    Issue(Issue),
    Sign(Sign),
    Renew(Renew),
    Revoke(Revoke),
    Crl(Crl),
    Show(Show),
}

/// Make a new authority, valid for ten years
///
/// Writes authority.pem, authority.key and an empty revoked.crl into DIR.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast-certs init --dir pki --trust-domain example.org")]
struct Init {
    /// The authority's folder; created when absent
    #[arg(long)]
    dir: PathBuf,
    /// The domain its identities live in: a lower-case DNS name, also the TLS server name of its relays
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: TrustDomain,
    /// The kind of its key
    #[arg(long, value_name = "TYPE", default_value = "p256", value_parser = words(KeyType::ALL, KeyType::as_str))]
    key_type: KeyType,
    /// Replace the authority that is there; it moves to DIR/replaced-…, and what it signed becomes useless
    #[arg(long)]
    force: bool,
}

/// Make a key and a certificate for a relay, an allocator, a device or a service
///
/// Writes OUT/KIND/NAME.pem and OUT/KIND/NAME.key, and authority.pem beside them, so that OUT can be
/// carried to another machine. The list of revoked certificates stays in DIR: it changes, so give servers
/// DIR/revoked.crl itself, or copy it whenever it was written.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast-certs issue relay r1 --dir pki
      writes pki/relay/r1.pem and pki/relay/r1.key
  holdfast-certs issue device alice/phone --dir pki --out for-alice
      writes for-alice/device/alice/phone.pem, phone.key and for-alice/authority.pem")]
struct Issue {
    /// What it is for
    #[arg(value_parser = words(Kind::ALL, Kind::as_str))]
    kind: Kind,
    /// Its name; a device's is ACCOUNT/DEVICE. A name has 1 to 64 characters of A-Z a-z 0-9 . _ -
    name: String,
    /// The authority's folder
    #[arg(long)]
    dir: PathBuf,
    /// The folder to write to [default: DIR]
    #[arg(long)]
    out: Option<PathBuf>,
    /// How many days the certificate is valid; never longer than the authority's own
    #[arg(long, default_value_t = DEFAULT_DAYS)]
    days: u32,
    /// The kind of its key
    #[arg(long, value_name = "TYPE", default_value = "p256", value_parser = words(KeyType::ALL, KeyType::as_str))]
    key_type: KeyType,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// Sign a request (CSR), so that a key never leaves its device
///
/// The identity is the spiffe:// URI in the request's subjectAltName, or the one given by --as; when both
/// are there they must agree. Only the key and the identity are taken from a request.
#[derive(Debug, Args)]
#[command(after_help = "Example, with the request made by OpenSSL on the device:
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout pc.key -out pc.csr \\
      -subj / -addext subjectAltName=URI:spiffe://example.org/device/alice/pc
  holdfast-certs sign --csr pc.csr --dir pki --out pc.pem")]
struct Sign {
    /// The request, PEM
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// The authority's folder
    #[arg(long)]
    dir: PathBuf,
    /// Where to write the certificate
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Whom it is for: device:ACCOUNT/DEVICE, relay:NAME, allocator:NAME or service:NAME
    #[arg(long = "as", value_name = "KIND:NAME")]
    named: Option<Identity>,
    /// How many days the certificate is valid; never longer than the authority's own
    #[arg(long, default_value_t = DEFAULT_DAYS)]
    days: u32,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

/// Issue a certificate anew for the identity of an old one, even an expired one
///
/// With --key the key stays and only the certificate is written; otherwise a new key is written beside
/// it, first, so that a program that watches the certificate finds the pair complete. The old
/// certificate stays valid until it runs out: revoke it by its serial number if it must not.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast-certs renew pki/relay/r1.pem --dir pki --force
      a new certificate and a new key in place of the old ones
  holdfast-certs renew pki/relay/r1.pem --key pki/relay/r1.key --dir pki --out next/r1.pem
      a new certificate for the same key")]
struct Renew {
    /// The old certificate
    #[arg(value_name = "CERT")]
    certificate: PathBuf,
    /// The authority's folder
    #[arg(long)]
    dir: PathBuf,
    /// Keep this key, which the old certificate was issued with
    #[arg(long)]
    key: Option<PathBuf>,
    /// The kind of the new key [default: as before]
    #[arg(long, value_name = "TYPE", conflicts_with = "key", value_parser = words(KeyType::ALL, KeyType::as_str))]
    key_type: Option<KeyType>,
    /// Where to write the certificate; a new key goes beside it, .key in place of .pem [default: CERT]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How many days the certificate is valid; never longer than the authority's own
    #[arg(long, default_value_t = DEFAULT_DAYS)]
    days: u32,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// Revoke certificates and sign a new list of what is revoked
///
/// Writes DIR/revoked.crl, valid for 30 days. Programs that read that file act on it; copy it to those
/// that have one of their own.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast-certs revoke pki/device/alice/phone.pem --dir pki
  holdfast-certs revoke 5f3e0c…  --dir pki               the serial number, as `show` prints it
  holdfast-certs revoke device:alice/phone --dir pki     every valid certificate of alice's phone")]
struct Revoke {
    /// A certificate's file, its serial number, or an identity as KIND:NAME
    #[arg(value_name = "CERT|SERIAL|KIND:NAME")]
    target: String,
    /// The authority's folder
    #[arg(long)]
    dir: PathBuf,
    /// Why
    #[arg(long, default_value = "unspecified", value_parser = words(Reason::ALL, Reason::as_str))]
    reason: Reason,
}

/// Sign the list of revoked certificates anew
///
/// Programs refuse everybody once their list has run out, so run this from a timer, a good while before
/// the last one's end.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  holdfast-certs crl --dir pki --days 30")]
struct Crl {
    /// The authority's folder
    #[arg(long)]
    dir: PathBuf,
    /// How many days the list is valid
    #[arg(long, default_value_t = DEFAULT_CRL_DAYS)]
    days: u32,
}

/// Print what a certificate, an authority, a request or a list of revoked certificates says
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast-certs show pki/relay/r1.pem
  holdfast-certs show pki/revoked.crl --json
  holdfast-certs show --all --dir pki                    everything the authority has issued")]
struct Show {
    /// The file, PEM
    #[arg(required_unless_present = "all")]
    file: Option<PathBuf>,
    /// List every certificate the authority has issued
    #[arg(long, requires = "dir", conflicts_with = "file")]
    all: bool,
    /// The authority's folder
    #[arg(long, requires = "all")]
    dir: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
}

/// What a command ends with: the text for standard output, or the text for standard error.
pub(crate) type Outcome = Result<String, String>;

/// Prints an outcome and turns it into an exit code.
pub(crate) fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(text) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("holdfast-certs: {text}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    /// Does what was asked, at the time `now`.
    pub(crate) fn run(&self, now: OffsetDateTime) -> Outcome {
        match &self.action {
            Action::Init(init) => init.run(now),
            Action::Issue(issue) => issue.run(now),
            Action::Sign(sign) => sign.run(now),
            Action::Renew(renew) => renew.run(now),
            Action::Revoke(revoke) => revoke.run(now),
            Action::Crl(crl) => crl.run(now),
            Action::Show(show) => show.run(now),
        }
    }
}

impl Init {
    fn run(&self, now: OffsetDateTime) -> Outcome {
        let overwrite = Overwrite::from_force(self.force);
        let authority =
            Authority::create(&self.dir, &self.trust_domain, self.key_type, now, overwrite)
                .map_err(text)?;
        Ok(format!(
            "the authority of {}, valid until {}\n  {}  every program needs it\n  {}  keep it secret\n  {}  \
             every server needs it; it is valid for {DEFAULT_CRL_DAYS} days, then renewed by \
             `holdfast-certs crl`",
            authority.trust_domain(),
            show::day(authority.not_after()),
            authority.certificate_path().display(),
            authority.key_path().display(),
            authority.crl_path().display(),
        ))
    }
}

impl Issue {
    fn run(&self, now: OffsetDateTime) -> Outcome {
        let authority = Authority::open(&self.dir).map_err(text)?;
        let identity = Identity::parse(self.kind, &self.name).map_err(text)?;
        let overwrite = Overwrite::from_force(self.force);
        let out = self.out.as_ref().unwrap_or(&self.dir);
        let paths = PairPaths::of(out, &identity);
        // Everything that can be refused is refused before the authority has issued anything.
        paths.ensure_free(overwrite).map_err(text)?;
        let trusted = place_authority(out, &authority, overwrite).map_err(text)?;

        let terms = Terms {
            days: self.days,
            key_type: self.key_type,
        };
        let issued = authority.issue(&identity, &terms, now).map_err(text)?;
        write_pair(&paths, &issued, overwrite).map_err(text)?;
        Ok(written(
            &issued.certificate,
            &[&paths.certificate, &paths.key, &trusted],
        ))
    }
}

impl Sign {
    fn run(&self, now: OffsetDateTime) -> Outcome {
        let authority = Authority::open(&self.dir).map_err(text)?;
        let overwrite = Overwrite::from_force(self.force);
        free(&self.out, overwrite)?;
        let request = read(&self.csr)?;
        let signed = authority
            .sign(&request, self.named.as_ref(), self.days, now)
            .map_err(in_file(&self.csr))?;
        write_certificate(&self.out, &signed.certificate_pem, overwrite).map_err(text)?;
        Ok(written(&signed.certificate, &[&self.out]))
    }
}

impl Renew {
    fn run(&self, now: OffsetDateTime) -> Outcome {
        let authority = Authority::open(&self.dir).map_err(text)?;
        let overwrite = Overwrite::from_force(self.force);
        let paths = PairPaths::beside(self.out.as_ref().unwrap_or(&self.certificate));
        free(&paths.certificate, overwrite)?;
        let former = read(&self.certificate)?;
        let certificate = Certificate::from_pem(&former).map_err(in_file(&self.certificate))?;

        let key_type = self.key_type.unwrap_or(certificate.key_type);
        let terms = Terms {
            days: self.days,
            key_type,
        };
        match &self.key {
            Some(key) => {
                let renewed = authority
                    .renew(&former, Some(&read(key)?), &terms, now)
                    .map_err(about(&self.certificate, key))?;
                write_certificate(&paths.certificate, &renewed.certificate_pem, overwrite)
                    .map_err(text)?;
                Ok(written(&renewed.certificate, &[&paths.certificate]))
            }
            None => {
                paths.ensure_free(overwrite).map_err(text)?;
                let renewed = authority
                    .renew(&former, None, &terms, now)
                    .map_err(in_file(&self.certificate))?;
                write_pair(&paths, &renewed, overwrite).map_err(text)?;
                Ok(written(
                    &renewed.certificate,
                    &[&paths.certificate, &paths.key],
                ))
            }
        }
    }
}

impl Revoke {
    fn run(&self, now: OffsetDateTime) -> Outcome {
        let authority = Authority::open(&self.dir).map_err(text)?;
        let revoked = authority
            .revoke(&self.target()?, self.reason, now)
            .map_err(text)?;
        let mut said = String::new();
        for entry in &revoked {
            said += &format!(
                "revoked {}, serial {}, since {}\n",
                entry.identity,
                entry.serial,
                show::second(entry.since)
            );
        }
        Ok(said + &published(&authority, DEFAULT_CRL_DAYS))
    }

    /// A file wins over the other readings: its name is what somebody sees and completes.
    fn target(&self) -> Result<Target, String> {
        if Path::new(&self.target).is_file() {
            return Ok(Target::Certificate(read(Path::new(&self.target))?));
        }
        if let Ok(identity) = self.target.parse() {
            return Ok(Target::Identity(identity));
        }
        self.target.parse().map(Target::Serial).map_err(|_| {
            format!(
                "`{}` is neither a file, nor a serial number, nor an identity such as \
                 device:alice/phone",
                self.target
            )
        })
    }
}

impl Crl {
    fn run(&self, now: OffsetDateTime) -> Outcome {
        let authority = Authority::open(&self.dir).map_err(text)?;
        authority.publish_crl(self.days, now).map_err(text)?;
        Ok(published(&authority, self.days))
    }
}

impl Show {
    fn run(&self, now: OffsetDateTime) -> Outcome {
        match (&self.file, &self.dir) {
            (Some(file), _) => {
                let summary = inspect(&read(file)?).map_err(in_file(file))?;
                Ok(show::summary(&summary, self.json, now))
            }
            (None, Some(dir)) => {
                let authority = Authority::open(dir).map_err(text)?;
                let issued = authority.issued().map_err(text)?;
                let revoked = authority.revoked().map_err(text)?;
                Ok(show::issued(&issued, &revoked, self.json, now))
            }
            (None, None) => Err("name a file, or --all with --dir".to_owned()),
        }
    }
}

/// Lets clap offer the words of a choice, and read them as the choice itself.
fn words<T, const N: usize>(
    choices: [T; N],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(choices.map(word)).try_map(|word| word.parse::<T>())
}

fn written(certificate: &Certificate, files: &[&Path]) -> String {
    let mut said = format!(
        "{}, serial {}, valid until {}\n",
        certificate.identity.uri(&certificate.trust_domain),
        certificate.serial,
        show::day(certificate.not_after)
    );
    for file in files {
        said += &format!("  {}\n", file.display());
    }
    said
}

fn published(authority: &Authority, days: u32) -> String {
    format!(
        "signed {}, valid for {days} days",
        authority.crl_path().display()
    )
}

fn free(path: &Path, overwrite: Overwrite) -> Result<(), String> {
    let taken = overwrite == Overwrite::Never && path.symlink_metadata().is_ok();
    if taken {
        Err(text(Error::Exists(path.to_owned())))
    } else {
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn text(error: Error) -> String {
    error.to_string()
}

/// Says which file an error is about.
fn in_file(path: &Path) -> impl Fn(Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

/// Says which of a pair's two files an error is about, once the certificate is known to parse.
fn about(certificate: &Path, key: &Path) -> impl Fn(Error) -> String {
    move |error| match error {
        Error::UnusableKey | Error::ForeignKey | Error::WrongPem { .. } => in_file(key)(error),
        other => in_file(certificate)(other),
    }
}
