//! What a person sees: the demo in a window, screen by screen.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use test_harness::backend::Backend;
use test_harness::demo::{self, wait_for_event};
use test_harness::display::Display;
use test_harness::godot::Launch;
use test_harness::picture::Picture;

const SCREENS: &[&str] = &["login", "server_browser", "race", "results"];

#[test]
fn the_demo_shows_login_servers_race_and_results() -> Result<()> {
    let display = Display::open()?;
    display.check_drivers()?;
    let backend = Backend::start()?;
    let mut server = demo::start_server("Meadow", &backend.url(), &backend.server_key_file())?;
    let folder = tempfile::tempdir()?;
    let mut window = Launch::windowed("window", "demo", display.name())
        .arg("--autoplay")
        .arg("--name=Ada")
        .arg("--room=Meadow")
        .arg(format!("--screenshots={}", folder.path().display()))
        .arg(format!("--backend-url={}", backend.url()))
        .start()?;
    let mut bot = demo::bot("Bob", "Meadow", &backend.url()).start()?;
    wait_for_event(window.log(), "race_finished")?;
    window.finish(0)?;
    bot.finish(0)?;

    let mut pictures: Vec<(&str, Picture)> = Vec::new();
    for screen in SCREENS {
        let picture = Picture::open(&folder.path().join(format!("{screen}.png")))
            .with_context(|| window.log().tail())?;
        ensure!(
            picture.width >= 640 && picture.height >= 360,
            "{screen}: {}x{}",
            picture.width,
            picture.height
        );
        ensure!(picture.colours() > 16, "{screen} has only {} colours", picture.colours());
        ensure!(picture.dominance() < 0.98, "{screen} is {:.3} one colour", picture.dominance());
        for (other, earlier) in &pictures {
            let difference = picture.difference(earlier);
            ensure!(difference > 0.005, "{screen} looks like {other}: {difference:.4} of the pixels differ");
        }
        pictures.push((screen, picture));
    }
    server.signal(Signal::TERM)?;
    server.finish(0)
}
