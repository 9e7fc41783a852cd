// Every English sentence of the client, in one place for translation. Plain data and small functions; no markup.
import type { Viewer } from './api/types';

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const at = (seconds: number) => clock.format(new Date(seconds * 1000));
const kinds = { browser: 'a browser', vnc: 'a VNC viewer' };
const place = (viewer: Viewer) => `${kinds[viewer.kind]} at ${viewer.address}`;

const percent = (share: number) => `${Math.max(0, Math.min(100, Math.round(share)))}\u202f%`;

export const text = {
  product: 'Lucarne',
  title: (page: string) => `${page} – Lucarne`,

  error: {
    network: 'The server can’t be reached. Check your network connection.',
    timeout: 'The server did not answer in time. Try again in a moment.',
    garbled: 'The answer did not come from Lucarne. A proxy or sign-on page may be in between.',
    status: (status: number) => `The server answered with HTTP status ${status}. Try again in a moment.`,
    unexpected: 'Something went wrong on this page. Reload it to go on; your desktop keeps running.',
    reload: 'Reload',
  },

  start: {
    opening: 'Opening Lucarne…',
    unreachable: 'Waiting for the server',
    retrying: 'Trying again by itself.',
    tryNow: 'Try now',
  },

  notFound: {
    heading: 'There is nothing at this address',
    detail: 'The link may be old or mistyped.',
    toPortal: 'Go to your desktops',
  },

  signIn: {
    heading: 'Sign in',
    lead: 'Your desktop, a window away.',
    name: 'Name',
    password: 'Password',
    show: 'Show password',
    hide: 'Hide password',
    submit: 'Sign in',
    busy: 'Signing in…',
    slow: 'Still checking. After failed attempts the server takes its time.',
    bad: 'Name or password is not right. Check both and try again.',
    nameMissing: 'Enter your name.',
    passwordMissing: 'Enter your password.',
    privacy: 'Nothing of your session stays on this device.',
    again: 'You were signed out. Sign in to go on.',
  },

  account: {
    menu: (name: string) => `Account of ${name}`,
    administrator: 'Administrator',
    changePassword: 'Change password',
    signOut: 'Sign out',
    current: 'Current password',
    fresh: 'New password',
    freshHint: 'At least 8 characters.',
    repeat: 'New password again',
    tooShort: 'The new password needs at least 8 characters.',
    differ: 'The two new passwords differ.',
    wrongCurrent: 'The current password is not right.',
    save: 'Change password',
    saving: 'Changing…',
    changed: 'Your password is changed.',
  },

  common: { cancel: 'Cancel', close: 'Close', tryAgain: 'Try again', dismiss: 'Dismiss' },

  portal: {
    heading: 'Your desktops',
    loading: 'Looking up your desktops…',
    stale: 'The list may be out of date:',
    emptyHeading: 'No desktop is assigned to you yet',
    emptyDetail:
      'Desktops come in pools, and none lists you or one of your groups. Ask your administrator to let you use one, and give your name:',
    emptyAdmin:
      'You are an administrator: create a pool with “lucarne pool create” and entitle a user or a group. It shows up here by itself.',
    connect: 'Connect',
    resume: 'Return to desktop',
    takeOver: 'Connect here',
    wait: 'Connect when ready',
    start: 'Start',
    logOff: 'Log off',
    stopWaiting: 'Stop waiting',
    preview: (name: string) => `Live picture of ${name}`,
    inUse: (viewers: Viewer[]) =>
      viewers.length === 0
        ? 'It is open in another window or on another device. Connecting here moves it to this one.'
        : `It is open in ${viewers.map(place).join(' and in ')}. Connecting here moves it to this window.`,
    view: 'View only',
    loggedOff: (name: string, persistent: boolean) =>
      persistent
        ? `Logged off from ${name}. The desktop and what is on its disk stay.`
        : `Logged off from ${name}. The desktop and its data were destroyed.`,
  },

  chip: {
    ready: 'Ready',
    inUse: 'In use',
    starting: 'Starting',
    preparing: (progress: number | null) =>
      progress === null ? 'Preparing' : `Preparing ${percent(progress)}`,
    notStarted: 'Not started',
    loggingOff: 'Logging off',
    off: 'Powered off',
    suspended: 'Suspended',
    stopping: 'Stopping',
    failed: 'Failed',
    unavailable: 'Unavailable',
  },

  card: {
    preparing: 'The desktop’s template is being made. You can connect as soon as it is done.',
    unavailable: 'No host can run this desktop now. Try again later or ask your administrator.',
    lost: 'The host that runs this desktop is silent. The desktop comes back with it; your administrator can look after it.',
    failed: 'The desktop failed. Log off to throw it away, then connect for a fresh one.',
    stopping: 'The desktop is being destroyed. A fresh one can be had in a moment.',
    poweringOff: 'It is being powered off, and keeps what is on its disk.',
    suspended: 'Everything in it is as it was. It goes on within a moment.',
    off: 'It keeps what is on its disk. Starting it takes as long as a computer takes to start.',
  },

  launch: {
    asking: 'Finding a place for your desktop…',
    starting: 'Starting your desktop…',
    ready: 'Your desktop is ready. Opening it…',
    progress: (detail: string, share: number | null) =>
      share === null ? detail : `${detail.replace(/[.…]$/, '')} (${percent(share)})`,
  },

  logOff: {
    heading: (pool: string) => `Log off from ${pool}?`,
    floating: {
      detail:
        'The desktop and everything in it are destroyed: open programs, files and settings. This can’t be undone.',
      keep: 'To keep it running and come back later, just leave it instead.',
      confirm: 'Log off and destroy',
      busy: 'Destroying the desktop…',
    },
    personal: {
      detail:
        'Your session ends. The desktop and what is on its disk stay; programs that are open may be closed.',
      keep: 'To go on where you are, just leave it instead.',
      confirm: 'Log off',
      busy: 'Logging off…',
    },
  },

  hosts: {
    heading: 'Hosts',
    note: 'Seen by administrators only',
    none: 'No host has joined yet, so no desktop can run. Start one with “lucarne host”.',
    online: 'Online',
    offline: (when: string) => `Offline, last heard ${when}`,
    kvm: 'KVM',
    tcg: 'TCG, without hardware acceleration',
    driver: (driver: string, version: string) => `${driver.toUpperCase()} ${version}`,
    desktops: (n: number) => (n === 1 ? '1 desktop' : `${n} desktops`),
    memory: (free: string, all: string) => `${free} of ${all} memory free`,
    disk: (free: string) => `${free} disk free`,
    cpus: (n: number) => (n === 1 ? '1 CPU' : `${n} CPUs`),
  },

  viewer: {
    recorded: 'Recorded',
    recordedHint: 'What this desktop shows is recorded. What you type is not.',
    label: (name: string) => `Screen of ${name}`,
    stage: {
      asking: 'Asking for your desktop…',
      preparing: 'Your desktop is being prepared…',
      linking: 'Opening the connection…',
      painting: 'Waiting for the first picture…',
      retrying: 'No connection yet. Trying again by itself…',
    },
    connecting: 'Connecting',
    reconnecting: 'Reconnecting…',
    reconnectingDetail: 'The link was lost. Your desktop keeps running; nothing you did is gone.',
    closed: (code: number) => `The connection was closed (code ${code}).`,
    serverAway: 'The server is restarting.',
    stalled: 'No picture came in time.',
    ended: {
      logged_off: {
        heading: 'You are logged off',
        detail: 'The desktop and the data in it were destroyed. Connecting again gives you a fresh one.',
      },
      desktop_ended: {
        heading: 'The desktop has ended',
        detail: 'It was shut down or stopped by an administrator. Connecting again gives you a fresh one.',
      },
      taken_over: {
        heading: 'Your desktop is open somewhere else',
        detail: 'It was opened in another window or on another device. It is still running.',
      },
      stopped: {
        heading: 'This viewer was ended',
        detail: 'The desktop is still running.',
      },
      idle: {
        heading: 'You were disconnected',
        detail: 'Nothing was typed or clicked for as long as that may be. The desktop is still running.',
      },
      lasted: {
        heading: 'Your time is over',
        detail:
          'The session has lasted for as long as it may, and you are logged off. The desktop and the data in it were destroyed.',
      },
      powered_off: {
        heading: 'The desktop is powered off',
        detail: 'What is on its disk stays. Connecting again starts it.',
      },
      suspended: {
        heading: 'The desktop is suspended',
        detail: 'Everything in it stays as it is. Connecting again brings you back to it.',
      },
      put_back: {
        heading: 'The desktop was put back',
        detail: 'It is as it was at the time of a snapshot. Connecting again brings you to it.',
      },
      maintenance: {
        heading: 'The desktop’s host is being worked on',
        detail:
          'The desktop and the data in it were destroyed. Connecting again gives you a fresh one on another host.',
      },
      signed_out: {
        heading: 'You were signed out',
        detail: 'Your desktop keeps running. Sign in to go back to it.',
      },
      session_ended: {
        heading: 'This session has ended',
        detail: 'Its desktop is gone. Connect from your desktops to get a fresh one.',
      },
      not_found: {
        heading: 'There is no such desktop',
        detail: 'The session does not exist, or it is not yours.',
      },
      refused: {
        heading: 'The server refused the connection',
        detail: 'Go back to your desktops and connect again.',
      },
    },
    /** What is different where the desktop stays. */
    endedPersonal: {
      logged_off: {
        heading: 'You are logged off',
        detail: 'The desktop and what is on its disk stay. Connecting again brings you back to it.',
      },
      desktop_ended: undefined,
      taken_over: undefined,
      stopped: undefined,
      idle: undefined,
      lasted: {
        heading: 'Your time is over',
        detail:
          'The session has lasted for as long as it may, and you are logged off. The desktop and what is on its disk stay.',
      },
      powered_off: undefined,
      suspended: undefined,
      put_back: undefined,
      maintenance: {
        heading: 'The desktop’s host is being worked on',
        detail:
          'The desktop is powered off, and what is on its disk stays. You can start it again when that is over.',
      },
      signed_out: undefined,
      session_ended: {
        heading: 'This session has ended',
        detail: 'Its desktop stays. Connect from your desktops to go back to it.',
      },
      not_found: undefined,
      refused: undefined,
    },
    takenOverBy: (by: Viewer) =>
      `It was opened at ${at(by.since)} in ${place(by)}. It is still running, and nothing you did is gone.`,
    useHere: 'Use it here',
    signIn: 'Sign in',
    toPortal: 'Your desktops',
    cancel: 'Cancel',
  },

  toolbar: {
    label: 'Desktop toolbar',
    open: 'Show the toolbar (Ctrl+Alt+Shift)',
    pin: 'Hide the toolbar',
    back: 'Your desktops',
    backHint: 'Leave the desktop running and go back to your desktops',
    cad: 'Ctrl-Alt-Del',
    fullScreen: 'Full screen',
    leaveFullScreen: 'Leave full screen',
    clipboard: 'Clipboard',
    sound: { on: 'Mute', muted: 'Unmute', unable: 'No sound' },
    soundHint: {
      on: 'Mute the desktop',
      muted: 'Hear the desktop',
      unable:
        'This browser can’t play the desktop’s sound: it has no audio decoder (WebCodecs). A newer one can.',
    },
    logOff: 'Log off',
    shortcut: 'Ctrl+Alt+Shift opens this bar from the keyboard.',
  },

  ending: {
    maintenance: (left: string, persistent: boolean) => ({
      heading: `This desktop’s host is worked on in ${left}.`,
      detail: persistent
        ? 'Save your work: the desktop is powered off then. What is on its disk stays.'
        : 'Save your work elsewhere: the desktop and the data in it are destroyed then. You can have a fresh one at once.',
    }),
    idle: (left: string) => ({
      heading: `Are you still there? You are disconnected in ${left}.`,
      detail: 'Move the mouse over the desktop or press a key to stay. The desktop goes on running.',
    }),
    session_limit: (left: string, persistent: boolean) => ({
      heading: `Your time is over in ${left}.`,
      detail: persistent
        ? 'Save your work: you will be logged off. The desktop and what is on its disk stay.'
        : 'Save your work elsewhere: you will be logged off, and the desktop and the data in it are destroyed.',
    }),
  },

  presence: {
    label: 'Who else sees this desktop',
    watching: (viewer: Viewer) =>
      viewer.control
        ? `${viewer.user} watches this desktop and may type`
        : `${viewer.user} watches this desktop`,
    also: (viewer: Viewer) =>
      viewer.control
        ? `Also open since ${at(viewer.since)} in ${place(viewer)}`
        : `Also shown since ${at(viewer.since)} in ${place(viewer)}, view only`,
    stop: 'Stop',
    end: 'End it',
    viewOnly: 'View only',
    shadowed: (user: string, control: boolean) =>
      control
        ? `You share ${user}’s desktop; ${user} sees that`
        : `You watch ${user}’s desktop; ${user} sees that`,
    moved: (viewers: Viewer[]) => `It was open in ${viewers.map(place).join(' and in ')}, and is here now.`,
  },

  shadow: {
    heading: (user: string) => `${user} asks to see your desktop`,
    look: 'They would see and hear everything on it, as you do, until one of you ends it. They could not type or copy.',
    control:
      'They would see and hear everything on it, as you do, and could use keyboard and mouse too, until one of you ends it.',
    reason: (words: string) => `The reason given: “${words}”`,
    allow: 'Allow',
    deny: 'Don’t allow',
    left: (seconds: number) => `Without an answer it is not allowed, in ${seconds} s.`,
    again: 'Ask again',
    broken: 'the connection broke',
    stage: {
      asking: 'Waiting for the user’s answer…',
      preparing: 'Waiting for the user’s answer…',
      linking: 'Opening the connection…',
      painting: 'Waiting for the first picture…',
      retrying: 'No connection yet…',
    },
  },

  clipboard: {
    heading: 'Clipboard',
    intro: {
      both: 'Text that you copy in the desktop appears here. Text that you send can be pasted there.',
      to_desktop:
        'Text that you send can be pasted in the desktop. What you copy in this desktop stays there.',
      from_desktop: 'Text that you copy in the desktop appears here. Nothing can be sent to this desktop.',
    },
    label: 'Text of the clipboard',
    send: 'Send to desktop',
    fetch: 'Paste from this device',
    copy: 'Copy to this device',
    sent: 'Sent. Paste it in the desktop.',
    copied: 'Copied to this device.',
    denied: 'The browser did not allow it. Use Ctrl+C and Ctrl+V in the box instead.',
  },
};
