//! `device`: a person approves in a browser, here or on a phone, what was asked for on this terminal.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use token_core::{Clock, DeviceAuthorization, RefreshTokenFile, SystemClock};

use super::Failure;
use super::client::Client;
use super::get::deliver;

/// Arguments of `device`.
#[derive(Args)]
pub(super) struct Device {
    #[command(flatten)]
    client: Client,
    /// Print the token instead of putting it where tools find it (WLCG Bearer Token Discovery: bt_u<euid>).
    #[arg(long)]
    print: bool,
    /// Keep the refresh token in this file, of mode 0600. It is given only if the scopes have `offline_access`.
    #[arg(long, value_name = "FILE")]
    refresh_token_file: Option<PathBuf>,
    /// Show no QR code, also on a terminal.
    #[arg(long)]
    no_qr: bool,
}

/// `device`.
pub(super) async fn device(arguments: &Device, as_json: bool) -> Result<String, Failure> {
    let (client, request) = arguments.client.client()?;
    let file = arguments.refresh_token_file.as_deref().map(RefreshTokenFile::ready).transpose();
    let file = file.map_err(Failure::usage)?;
    let device = client.device_authorization(&request).await.map_err(Failure::refused)?;
    let terminal = stderr().is_terminal();
    tell(&invitation(&device, terminal && !arguments.no_qr));
    let answer = tokio::select! {
        answer = client.device_token(&device) => answer,
        never = countdown(&device, terminal) => match never {},
    };
    if terminal {
        tell("\r\x1b[K");
    }
    let answer = answer.map_err(Failure::refused)?;
    match (file, &answer.refresh) {
        (Some(file), Some(token)) => file.keep(token).map_err(Failure::usage)?,
        (Some(_), None) => {
            tell("wlcg-token: the issuer gave no refresh token; ask for the scope offline_access\n");
        }
        (None, _) => (),
    }
    deliver(&answer.grant.map_err(Failure::refused)?, !arguments.print, as_json)
}

/// What the person is told.
fn invitation(device: &DeviceAuthorization, with_qr: bool) -> String {
    let complete = device.verification_uri_complete.as_ref();
    let mut text = format!("Open   {}\nEnter  {}\n", device.verification_uri, device.user_code);
    if let Some(complete) = complete {
        text.push_str(&format!("or open {complete}\n"));
    }
    let target = complete.unwrap_or(&device.verification_uri).as_str();
    if with_qr && let Some(picture) = picture(target) {
        text.push_str(&format!("\n{picture}\n"));
    }
    text
}

/// The address as a QR code, dark on light whatever the terminal's colours: phones want it so, and a quiet zone around it.
fn picture(target: &str) -> Option<String> {
    let code = QrCode::new(target).ok()?;
    let lines = code.render::<Dense1x2>().quiet_zone(true).build();
    Some(lines.lines().map(|line| format!("\x1b[30;47m{line}\x1b[0m\n")).collect())
}

/// Shows how long the code is still good, on one line of a terminal.
async fn countdown(device: &DeviceAuthorization, terminal: bool) -> std::convert::Infallible {
    loop {
        if terminal {
            let left = SystemClock.now().until(device.expires_at).as_secs();
            tell(&format!("\r\x1b[Kwaiting for approval, {}:{:02} left", left / 60, left % 60));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Not data, so on standard error; who can't be told is not waited for.
fn tell(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::picture;

    #[test]
    fn a_qr_code_is_a_square_of_half_blocks() {
        let target = "https://iam.example/device?user_code=ABCD-EFGH";
        let lines: Vec<String> = picture(target).unwrap().lines().map(str::to_owned).collect();
        let width = |line: &String| line.replace("\x1b[30;47m", "").replace("\x1b[0m", "").chars().count();
        assert!(lines.iter().all(|line| width(line) == width(&lines[0])));
        assert_eq!(width(&lines[0]).div_ceil(2), lines.len());
        assert_ne!(picture(target), picture("https://iam.example/device?user_code=ABCD-EFGI"));
        assert!(picture(&"x".repeat(8000)).is_none(), "too long for any QR code");
    }
}
