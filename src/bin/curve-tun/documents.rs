//! `curve-tun documents`: writes man pages and completions, from the definitions of the command
//! line.

use super::Cli;
use super::failure::{Failure, Outcome};
use clap::CommandFactory;
use clap_complete::Shell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write man pages and completions below a folder, as they are installed below /usr/share
#[derive(clap::Args)]
#[command(hide = true)]
pub struct Args {
    folder: PathBuf,
}

pub fn run(args: Args) -> Outcome {
    write(&args.folder).map_err(|error| {
        Failure::new(format_args!("cannot write below {}: {error}", args.folder.display()))
            .hint("See to its permissions, and to the room on its disk.")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path) -> std::io::Result<()> {
    let pages = folder.join("man/man1");
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(Cli::command(), pages)?;
    for (shell, place) in [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ] {
        let place = folder.join(place);
        fs::create_dir_all(&place)?;
        let path = clap_complete::generate_to(shell, &mut Cli::command(), "curve-tun", &place)?;
        if shell == Shell::Bash {
            // Bash looks for it by the name of the command.
            fs::rename(path, place.join("curve-tun"))?;
        }
    }
    Ok(())
}
