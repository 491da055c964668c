"""Connection profiles: brokers under names, each with its login; trying one; saving, editing and deleting."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import style, widgets
from dashboard.profile import MAX_NAME, MAX_SECRET, MAX_URL, Listed, Login
from dashboard.profile_trials import Trial, Trials
from dashboard.profiles import Draft, Profiles
from dashboard.views import settings_notice
from eventbus.errors import ConfigError
from eventbus.load.setting import SettingRefused

POLL_S = 1.0
LOGINS = {Login.NONE: "None", Login.PASSWORD: "User and password", Login.TOKEN: "Token"}
CONNECTION_LABELS = {
    "creds_file": "Credentials file",
    "ca_file": "Certificates of authorities",
    "cert_file": "Own certificate",
    "key_file": "Key of it",
    "mechanism": "Mechanism",
}
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
LABELS = CONNECTION_LABELS | {
    "name": "Name",
    "url": "URL",
    "login": "Login",
    "user": "User",
    "secret": "Password or token",
    "connection": "Files",
}
PLACEHOLDERS = {
    "creds_file": "of NATS, as nsc writes it",
    "ca_file": "where it is not one that this machine trusts",
    "cert_file": "PEM, where the broker wants one",
    "key_file": "PEM",
}
_REVISION, _EDITED = "profile_form", "profile_edited"
"""Session state. The first is counted up with each change, so that the form is another one, and empty again."""


def profiles_tab(profiles: Profiles, trials: Trials) -> None:
    """Draw the tab. It draws itself again each second while a profile is tried."""
    running = trials.running
    st.fragment(_tab, run_every=POLL_S if running else None)(profiles, trials, running)


def _tab(profiles: Profiles, trials: Trials, was_running: bool) -> None:
    if trials.running != was_running:
        st.rerun()  # the timer of this fragment can only be changed from outside of it
    settings_notice.tell()
    try:
        listed = profiles.list()
    except ConfigError as error:
        st.error(
            f"{widgets.plain(str(error))}. Set it right in an editor, or move the file away. Nothing is written to it "
            "meanwhile, and no profile can be chosen.",
            title="The connection profiles cannot be read",
            icon=":material/error:",
        )
        return
    if profiles.exposed():
        st.warning(
            f"Make it yours alone: `chmod 600 {_code(str(profiles.path))}`. The next change that is saved here does so "
            "too. Who could read it knows the passwords in it: they are better changed.",
            title="Others on this machine may read the file of the profiles",
            icon=":material/lock_open:",
        )
    if not listed:
        st.info(
            "A profile keeps the URL and the login of a broker under a name. Save one below: it can then be chosen as "
            "**Broker** on the page **Live**, and its password is not asked for and not shown again.",
            title="No connection profile yet",
            icon=":material/hub:",
        )
    for number, profile in enumerate(listed):
        _row(number, profile, profiles, trials)
    _form(profiles, trials, next((one for one in listed if one.name == st.session_state.get(_EDITED)), None))
    st.markdown(  # a caption would make the code in it too pale to read
        f":small[Kept in `{_code(str(profiles.path))}`, which only you can read. A password leaves it for the worker "
        "that publishes, and for the broker; runs, reports, exports and logs do not have it.]"
    )


def _row(number: int, profile: Listed, profiles: Profiles, trials: Trials) -> None:
    trial = trials.of(profile.name)
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            with st.container(width="content", gap="xxsmall"):
                st.markdown(f"**{widgets.plain(profile.name)}**")
                st.markdown(f"`{_code(profile.shown)}` &nbsp;:small[:gray[{_login(profile)}]]")
            with st.container(horizontal=True, width="content", vertical_alignment="center"):
                _buttons(number, profile, profiles, trials)
        if trial is not None:
            _result(profile, trial)


def _login(profile: Listed) -> str:
    if profile.login is Login.NONE:
        return ":material/no_accounts: no login"
    if profile.login is Login.TOKEN:
        return ":material/key: a token is kept"
    return f":material/key: user {widgets.plain(profile.user)}, a password is kept"


def _buttons(number: int, profile: Listed, profiles: Profiles, trials: Trials) -> None:
    trial = trials.of(profile.name)
    running = trial is not None and trial.running
    if st.button(
        "Trying…" if running else "Try it",
        key=f"profile-try-{number}",
        icon=":material/network_ping:",
        disabled=trials.running,
        help="Connect with this login, ask who answers and how long it takes, and leave. Nothing is changed there.",
    ):
        _try(profile, profiles, trials)
    st.button("Edit", key=f"profile-edit-{number}", icon=":material/edit:", on_click=_open_form, args=(profile.name,))
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown(f"Forget **{widgets.plain(profile.name)}** and its login?")
        if st.button("Delete it", key=f"profile-delete-{number}", type="primary", icon=":material/delete:"):
            _delete(profile, profiles, trials)


def _try(profile: Listed, profiles: Profiles, trials: Trials) -> None:
    try:
        trials.begin(profile.name, profiles.full_url(profile.name), profiles.connection(profile.name))
    except ConfigError as error:
        st.error(widgets.plain(str(error)), icon=":material/error:")
        return
    st.rerun()


def _delete(profile: Listed, profiles: Profiles, trials: Trials) -> None:
    try:
        profiles.delete(profile.name)
    except ConfigError as error:
        st.error(widgets.plain(str(error)), icon=":material/error:")
        return
    trials.forget(profile.name)
    settings_notice.note(f"Profile {profile.name} is deleted.", "delete")
    st.rerun()


def _result(profile: Listed, trial: Trial) -> None:
    at = f":small[:gray[at {widgets.plain(widgets.clock(trial.at_s))}]]"
    if trial.running:
        st.markdown(f"{widgets.badge('gray', 'hourglass_top', 'connecting')} {at}")
    elif trial.answer is None:
        st.markdown(f"{widgets.badge('red', 'error', 'no connection')} {at}")
        st.error(widgets.plain(trial.error), icon=":material/error:")
    else:
        seen = trial.answer
        badges = [
            widgets.badge("green", "check_circle", "connected"),
            widgets.badge("gray", "dns", seen.what),
            widgets.badge("gray", "timer", f"round trip {style.duration(seen.round_trip_s)}"),
        ]
        if seen.encrypted:
            badges.append(widgets.badge("green", "lock", "encrypted"))
        else:
            colour = "gray" if profile.login is Login.NONE else "orange"
            badges.append(widgets.badge(colour, "lock_open", "not encrypted"))
        st.markdown(f"{' '.join(badges)} {at}")
        if seen.warning:
            st.warning(widgets.plain(seen.warning), icon=":material/warning:")


# ---- the form ---------------------------------------------------------------------------------------------------


def _form(profiles: Profiles, trials: Trials, edited: Listed | None) -> None:
    slot = f"profile-{st.session_state.get(_REVISION, 0)}-"
    with st.container(border=True, key="profile_form"):
        widgets.heading("New profile" if edited is None else f"Edit {edited.name}", "")
        draft = _draft(slot, edited)
        with st.container(horizontal=True):
            saved = st.button("Save", key="profile_save", type="primary", icon=":material/save:")
            if edited is not None:
                st.button("Cancel", key="profile_cancel", on_click=_open_form)
        if saved:
            _save(profiles, trials, draft, edited)


def _draft(slot: str, edited: Listed | None) -> Draft:
    """What is typed. No secret that is kept is ever given to a field."""
    first, second = st.columns(2, gap="medium")
    with first:
        name = _text("name", slot, edited.name if edited else "", placeholder="staging", max_chars=MAX_NAME)
        url = _text(
            "url",
            slot,
            edited.url if edited else "",
            placeholder="tls://nats.example.com:4222",
            max_chars=MAX_URL,
            help="`nats://host:4222`, `tls://host:4222`, `wss://host`, `kafka://host:9092` or `kafka+ssl://host:9093`; "
            "several servers by comma. With `nats+context://NAME` a context of the `nats` command line tool tells "
            "servers, login, credentials file and certificates.",
        )
    with second:
        login = st.segmented_control(
            "Login",
            list(Login),
            default=edited.login if edited else Login.NONE,
            required=True,
            format_func=lambda login: LOGINS[login],
            key=f"{slot}login",
        )
        login = Login(login or Login.NONE)
        kept = edited is not None and edited.login is login
        user = secret = ""
        if login is Login.PASSWORD:
            user = _text("user", slot, edited.user if edited else "", max_chars=4 * MAX_NAME, autocomplete="off")
        if login is not Login.NONE:
            secret = st.text_input(
                "Token" if login is Login.TOKEN else "Password",
                key=f"{slot}secret-{login}",
                type="password",
                autocomplete="new-password",
                max_chars=MAX_SECRET,
                placeholder="kept as it is, unless you type another one" if kept else "",
                help="What is saved is not shown again, to nobody.",
            )
    return Draft(name.strip(), url.strip(), login, user, secret or "", _files(slot, edited))


def _files(slot: str, edited: Listed | None) -> dict[str, str]:
    """Files and mechanism: paths on this machine, which the worker reads. They are no secrets."""
    kept = edited.connection if edited else {}
    with st.expander("Files and mechanism", icon=":material/folder_open:", expanded=bool(kept)):
        given = {}
        with st.grid(2, min_column_width=240):
            for name in ("creds_file", "ca_file", "cert_file", "key_file"):
                given[name] = st.text_input(
                    CONNECTION_LABELS[name],
                    kept.get(name, ""),
                    key=f"{slot}{name}",
                    max_chars=MAX_URL,
                    placeholder=PLACEHOLDERS[name],
                ).strip()
            given["mechanism"] = (
                st.selectbox(
                    "Mechanism of Kafka's login",
                    MECHANISMS,
                    index=MECHANISMS.index(kept["mechanism"]) if kept.get("mechanism") in MECHANISMS else None,
                    key=f"{slot}mechanism",
                    placeholder="PLAIN",
                    filter_mode=None,
                )
                or ""
            )
    return {name: value for name, value in given.items() if value}


def _text(name: str, slot: str, value: str, **more: Any) -> str:
    return st.text_input(LABELS[name], value, key=f"{slot}{name}", **more) or ""


def _save(profiles: Profiles, trials: Trials, draft: Draft, edited: Listed | None) -> None:
    try:
        profiles.save(draft, replaces=None if edited is None else edited.name)
    except SettingRefused as error:
        what = LABELS.get(str(error.key[-1]), str(error.key[0]))
        st.error(f"**{what}** {widgets.plain(error.reason)}.", icon=":material/error:")
        return
    except ConfigError as error:
        st.error(widgets.plain(str(error)), icon=":material/error:")
        return
    trials.forget(draft.name, *([edited.name] if edited else []))
    _open_form()
    settings_notice.note(f"Profile {draft.name} is saved. It can be chosen on the page Live.")
    st.rerun()


def _open_form(name: str | None = None) -> None:
    """Another form: of this profile, or an empty one. What is secret in the one before leaves the browser with it."""
    st.session_state[_EDITED] = name
    st.session_state[_REVISION] = st.session_state.get(_REVISION, 0) + 1


def _code(text: str) -> str:
    return text.replace("`", "")
