#!/usr/bin/env python3
"""A private Tor or Anyone network on loopback, for as long as stdin stays open.

Three directory authorities, relays, exits, a client with a SOCKS port, and a host with one onion
service, every one a real daemon with a control port (cookie authentication). Nothing listens or
connects outside 127.0.0.1: our own DirectoryAuthority lines replace the built-in ones.

    network.py [--flavour tor|anon] [--daemon PATH] [--serve PORT]... [--option 'ROLE:LINE']...

Prints one line of JSON once a stream through an exit and a stream to the onion service have both
carried data, and then keeps the network up until end of file on stdin, SIGTERM or SIGINT. Daemons
also watch this process, so they end with it however it ends.

    {"flavour", "version", "dir", "seconds",
     "nodes": {NAME: {"role", "pid", "dir", "control", "cookie", "or", "dirport", "socks", "fingerprint"}},
     "service": {"hostname", "ports"}}

`--serve` forwards a port of the onion service to the same port of 127.0.0.1; port 7 echoes always.
An exit reaches every port of 127.0.0.1. ROLE of `--option` is `all`, a role or a node's name.

The `anon` daemon runs only for those who agreed to its network's terms: where
ANYONE_AGREE_TO_TERMS=1 is set already. Nothing here sets it.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HOST = "127.0.0.1"
ECHO_PORT = 7
TERMS = "ANYONE_AGREE_TO_TERMS"
# Votes fall on multiples of an interval. While relays still publish, the interval is so long that
# there is no vote; then it is the shortest that daemons accept, so that the first consensus is
# complete: clients that see an empty one ask again much later.
HOLD_SECONDS = 1800
FIRST_SECONDS = 5
LATER_SECONDS = 300
# The same for every relay: without measurements most weights are 0, and then all paths end at one.
BANDWIDTH = 10_000


class NetworkError(Exception):
    """The network does not come up."""


def note(text):
    print(f"network: {text}", file=sys.stderr, flush=True)


class Ports:
    """Free ports, each held by a bound socket until the daemons have theirs.

    SO_REUSEADDR comes after our own bind: a port that somebody listens on is not taken, while the
    daemon, which sets it before its bind, can listen beside our socket, which does not.
    """

    def __init__(self):
        self.held = []

    def take(self):
        held = socket.socket()
        held.bind((HOST, 0))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.held.append(held)
        return held.getsockname()[1]

    def release(self):
        for held in self.held:
            held.close()
        self.held.clear()


class Control:
    """A control connection, authenticated by cookie."""

    def __init__(self, port, cookie):
        self.socket = socket.create_connection((HOST, port), timeout=20)
        self.lines = self.socket.makefile("r", encoding="utf-8", errors="replace", newline="\n")
        self.events = []
        self.ask("AUTHENTICATE " + cookie.read_bytes().hex())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()

    def reply(self):
        """One reply or event: its lines, without codes; data blocks follow their line."""
        found = []
        while True:
            line = self.lines.readline().rstrip("\r\n")
            if len(line) < 4:
                raise NetworkError("control connection closed")
            code, more, text = line[:3], line[3], line[4:]
            if more == "+":
                while (data := self.lines.readline().rstrip("\r\n")) != ".":
                    text += "\n" + data.removeprefix(".")
            found.append(text)
            if more == " ":
                return code, found

    def ask(self, command):
        self.socket.sendall(command.encode() + b"\r\n")
        while (answer := self.reply())[0] == "650":
            self.events += answer[1]
        code, found = answer
        if code != "250":
            raise NetworkError(f"{command.split()[0]}: {code} {found[-1]}")
        return found

    def info(self, key):
        return self.ask(f"GETINFO {key}")[0].removeprefix(key + "=")

    def event(self, start):
        """Waits for an event that starts so."""
        while not any(event.startswith(start) for event in self.events):
            self.events += self.reply()[1]


def listens(port):
    socket.create_connection((HOST, port), timeout=2).close()
    return True


def receive(stream, count):
    found = b""
    while len(found) < count:
        part = stream.recv(count - len(found))
        if not part:
            raise NetworkError("stream closed early")
        found += part
    return found


def echoes(socks, host, port):
    """Whether a SOCKS5 stream (RFC 1928) to an echo port carries data both ways."""
    try:
        with socket.create_connection((HOST, socks), timeout=20) as stream:
            name = host.encode()
            stream.sendall(b"\5\1\0")
            receive(stream, 2)
            stream.sendall(b"\5\1\0\3" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
            if receive(stream, 10)[1] != 0:
                return False
            stream.sendall(b"marco")
            return receive(stream, 5) == b"marco"
    except (OSError, NetworkError):
        return False


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        with contextlib.suppress(OSError):
            while part := self.request.recv(65536):
                self.request.sendall(part)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True


class Node:
    """One daemon."""

    def __init__(self, name, role, base, ports):
        self.name, self.role, self.dir = name, role, base / name
        self.rc, self.cookie = self.dir / "rc", self.dir / "control_auth_cookie"
        self.is_relay = role in ("authority", "relay", "exit")
        self.control_port = ports.take()
        self.or_port = ports.take() if self.is_relay else None
        self.dir_port = ports.take() if role == "authority" else None
        self.socks_port = None if self.is_relay else ports.take()
        self.process = self.v3ident = None
        self.dir.mkdir(mode=0o700)

    def control(self):
        return Control(self.control_port, self.cookie)

    def fingerprint(self):
        return (self.dir / "fingerprint").read_text().split()[1]

    def told(self):
        """The end of what the daemon had to say."""
        log = self.dir / "log"
        lines = log.read_text(errors="replace").splitlines()[-8:] if log.exists() else []
        return "".join(f"\n  {self.name}: {line}" for line in lines)

    def describe(self):
        return {
            "role": self.role,
            "pid": self.process.pid,
            "dir": str(self.dir),
            "control": self.control_port,
            "cookie": str(self.cookie),
            "or": self.or_port,
            "dirport": self.dir_port,
            "socks": self.socks_port,
            "fingerprint": self.fingerprint() if self.is_relay else None,
        }


class Network:
    def __init__(self, args, base):
        self.args, self.base = args, base
        self.began = time.monotonic()
        self.daemon, self.gencert = locate(args)
        shown = subprocess.run([self.daemon, "--version"], capture_output=True, text=True, check=True).stdout
        self.version = shown.splitlines()[0].strip().rstrip(".")
        self.ports = Ports()
        self.echo = EchoServer((HOST, 0), Echo)
        threading.Thread(target=self.echo.serve_forever, daemon=True).start()

        def nodes(role, count):
            return [Node(f"{role}{number}", role, base, self.ports) for number in range(count)]

        self.authorities = nodes("authority", 3)
        self.relays = nodes("relay", args.relays) + nodes("exit", args.exits)
        self.client, self.host = (Node(role, role, base, self.ports) for role in ("client", "host"))
        self.nodes = [*self.authorities, *self.relays, self.client, self.host]
        # Keeps the next vote a quarter of an hour away or more.
        self.hold_offset = HOLD_SECONDS // 2 if time.time() % HOLD_SECONDS > HOLD_SECONDS / 2 else 0

    # Configuration.

    def settings(self, node, authorities):
        yield "TestingTorNetwork 1"
        yield from (f"DirAuthority {line}" for line in authorities)
        yield "UseDefaultFallbackDirs 0"
        yield f"OutboundBindAddress {HOST}"
        yield f"DataDirectory {node.dir}"
        yield f"Log notice file {node.dir}/log"
        yield f"ControlPort {HOST}:{node.control_port}"
        yield "CookieAuthentication 1"
        yield "PathsNeededToBuildCircuits 0.67"
        yield "ShutdownWaitLength 0"
        # Daemons learn how long circuits take, here milliseconds, and give up on a busy machine.
        yield "LearnCircuitBuildTimeout 0"
        yield f"SocksPort {HOST}:{node.socks_port} IsolateSOCKSAuth" if node.socks_port else "SocksPort 0"
        if self.args.flavour == "anon":
            yield "AgreeToTerms 1"
        if node.is_relay:
            yield f"Nickname {node.name}"
            yield f"Address {HOST}"
            yield f"ORPort {HOST}:{node.or_port} IPv4Only"
            yield "AssumeReachable 1"
            yield "ContactInfo none"
            # Exits would otherwise ask the machine's resolver whether it lies.
            yield f"ServerDNSResolvConfFile {self.base}/resolv.conf"
            yield "ServerDNSDetectHijacking 0"
            yield "ServerDNSTestAddresses"
            yield "ServerDNSAllowBrokenConfig 1"
            # The flag Exit ignores private addresses, so only a policy of everything earns it;
            # OutboundBindAddress is what keeps an exit on loopback.
            is_exit = node.role == "exit"
            yield f"ExitRelay {int(is_exit)}"
            yield f"ExitPolicy {'accept' if is_exit else 'reject'} *:*"
        if node.role == "authority":
            yield "AuthoritativeDirectory 1"
            yield "V3AuthoritativeDirectory 1"
            yield f"DirPort {HOST}:{node.dir_port} IPv4Only"
            yield f"TestingV3AuthInitialVotingInterval {HOLD_SECONDS} seconds"
            yield f"V3AuthVotingInterval {HOLD_SECONDS} seconds"
            yield f"TestingV3AuthVotingStartOffset {self.hold_offset}"
            for phase in ("TestingV3AuthInitialVote", "TestingV3AuthInitialDist", "V3AuthVote", "V3AuthDist"):
                yield f"{phase}Delay 2 seconds"
            yield f"V3BandwidthsFile {self.base}/bandwidths"
            yield "AuthDirTestReachability 0"
            yield "TestingDirAuthVoteGuard *"
            yield "TestingDirAuthVoteHSDir *"
            yield "TestingMinExitFlagThreshold 0"
        if node.role == "host":
            yield f"HiddenServiceDir {node.dir}/service"
            yield f"HiddenServicePort {ECHO_PORT} {HOST}:{self.echo.server_address[1]}"
            yield from (f"HiddenServicePort {port} {HOST}:{port}" for port in self.args.serve)
        for option in self.args.option:
            role, _, line = option.partition(":")
            if role in ("all", node.role, node.name):
                yield line

    def write(self, node, authorities):
        node.rc.write_text("".join(line + "\n" for line in self.settings(node, authorities)))

    def command(self, node):
        return [self.daemon, "-f", node.rc, "--defaults-torrc" if self.args.flavour == "tor" else "--defaults-anonrc",
                os.devnull]

    def make_keys(self, node):
        """The certificate of an authority and its identity as a relay."""
        keys = node.dir / "keys"
        keys.mkdir(mode=0o700)
        files = [keys / f"authority_{name}" for name in ("identity_key", "signing_key", "certificate")]
        flags = [part for flag, file in zip(("-i", "-s", "-c"), files) for part in (flag, file)]
        subprocess.run([self.gencert, "--create-identity-key", "-m", "12", *flags, "--passphrase-fd", "0"],
                       input=b"loopback\n", capture_output=True, check=True)
        node.v3ident = re.search(r"^fingerprint (\w{40})", files[2].read_text(), re.M).group(1)
        # The daemon wants some authority before it makes a key.
        self.write(node, [self.authority_line(node, "F" * 40)])
        subprocess.run([*self.command(node), "--quiet", "--list-fingerprint"], stdin=subprocess.DEVNULL,
                       capture_output=True, check=True)

    @staticmethod
    def authority_line(node, fingerprint):
        return f"{node.name} orport={node.or_port} v3ident={node.v3ident} {HOST}:{node.dir_port} {fingerprint}"

    # Processes.

    def spawn(self, nodes):
        for node in nodes:
            command = [*self.command(node), "__OwningControllerProcess", str(os.getpid())]
            # A session of its own: a Ctrl-C in a terminal is for this process, which then stops them.
            node.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            stderr=subprocess.DEVNULL, start_new_session=True)

    def stop(self):
        running = [node.process for node in self.nodes if node.process]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + 5
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.echo.shutdown()

    def until(self, what, holds, pause=0.1):
        """Waits until it holds; a daemon that ends, or too much time, is an error."""
        while True:
            for node in self.nodes:
                if node.process and node.process.poll() is not None:
                    raise NetworkError(f"{node.name} ended with {node.process.returncode}{node.told()}")
            # A port or a cookie that is not there yet is as good as an answer that is not yet right.
            with contextlib.suppress(OSError, NetworkError):
                if holds():
                    return
            if time.monotonic() > self.began + self.args.timeout:
                told = "".join(node.told() for node in (self.authorities[0], self.client, self.host))
                raise NetworkError(f"not within {self.args.timeout:.0f} s: {what}{told}")
            time.sleep(pause)

    # The way up.

    def knows_all(self, node):
        """Whether a node holds a consensus in which every relay runs and the exits are exits."""
        with node.control() as control:
            status = control.info("ns/all")
        flags = dict(re.findall(r"^r (\S+) .*\n(?:a .*\n)*s (.*)$", status, re.M))
        return all(
            "Running" in flags.get(relay.name, "") and (relay.role != "exit" or "Exit" in flags[relay.name])
            for relay in [*self.authorities, *self.relays]
        )

    def has_descriptors(self, node):
        with node.control() as control:
            found = re.findall(r"^router (\S+) ", control.info("desc/all-recent"), re.M)
        return {relay.name for relay in [*self.authorities, *self.relays]} <= set(found)

    def let_vote(self):
        lines = [str(int(time.time()))]
        lines += [f"node_id=${node.fingerprint()} bw={BANDWIDTH}" for node in [*self.authorities, *self.relays]]
        (self.base / "bandwidths").write_text("\n".join(lines) + "\n")
        for node in self.authorities:
            with node.control() as control:
                control.ask(f'SETCONF TestingV3AuthInitialVotingInterval="{FIRST_SECONDS} seconds" '
                            f'V3AuthVotingInterval="{LATER_SECONDS} seconds" TestingV3AuthVotingStartOffset=0')

    def up(self):
        (self.base / "resolv.conf").write_text(f"nameserver {HOST}\n")
        (self.base / "bandwidths").write_text(f"{int(time.time())}\n")
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.make_keys, self.authorities))
        lines = [self.authority_line(node, node.fingerprint()) for node in self.authorities]
        for node in self.nodes:
            self.write(node, lines)
        self.mark("keys")

        # Authorities first: a relay whose first upload fails tries again much later.
        self.spawn(self.authorities)
        for node in self.authorities:
            self.until(f"{node.name} listens", lambda: listens(node.dir_port))
        self.spawn(self.relays)
        for node in self.authorities:
            self.until(f"{node.name} knows every relay", lambda: self.has_descriptors(node))
        self.mark("descriptors")
        self.let_vote()
        for node in self.authorities:
            self.until(f"{node.name} has a consensus", lambda: self.knows_all(node))
        # Relays that asked too early wait before they ask again; a reload makes them ask now.
        for node in self.relays:
            node.process.send_signal(signal.SIGHUP)
        for node in self.relays:
            self.until(f"{node.name} has a consensus", lambda: self.knows_all(node))
        self.mark("consensus")

        self.spawn([self.client, self.host])
        # The cookie comes a little after the port.
        self.until("the host listens", lambda: listens(self.host.control_port) and self.host.cookie.exists())
        with self.host.control() as control:
            control.ask("SETEVENTS HS_DESC")
            self.until("the client is ready", lambda: "TAG=done" in self.bootstrap())
            self.until("an exit carries a stream",
                       lambda: echoes(self.client.socks_port, HOST, self.echo.server_address[1]), 0.5)
            self.mark("exit")
            self.until("the service has published", lambda: control.event("HS_DESC UPLOADED") is None, 0)
        hostname = (self.host.dir / "service/hostname").read_text().strip()
        # A client that asked for the descriptor too early remembers that there was none.
        time.sleep(0.3)
        self.until("the onion service carries a stream", lambda: self.reaches(hostname), 1)
        self.mark("service")
        self.ports.release()
        return {
            "flavour": self.args.flavour,
            "version": self.version,
            "dir": str(self.base),
            "seconds": round(time.monotonic() - self.began, 1),
            "nodes": {node.name: node.describe() for node in self.nodes},
            "service": {"hostname": hostname, "ports": [ECHO_PORT, *self.args.serve]},
        }

    def bootstrap(self):
        with self.client.control() as control:
            return control.info("status/bootstrap-phase")

    def reaches(self, hostname):
        if echoes(self.client.socks_port, hostname, ECHO_PORT):
            return True
        with self.client.control() as control:
            control.ask("SIGNAL NEWNYM")
        return False

    def mark(self, what):
        note(f"{time.monotonic() - self.began:5.1f} s  {what}")


def locate(args):
    """The daemon and its tool for authority keys, which lies beside it or on the path."""
    daemon = shutil.which(args.daemon or args.flavour)
    if daemon is None:
        raise NetworkError(f"{args.daemon or args.flavour} cannot be found")
    tool = args.flavour + "-gencert"
    beside = Path(daemon).resolve().parent / tool
    gencert = str(beside) if beside.exists() else shutil.which(tool)
    if gencert is None:
        raise NetworkError(f"{tool} cannot be found")
    return daemon, gencert


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flavour", choices=("tor", "anon"), default="tor")
    parser.add_argument("--daemon", metavar="PATH", help="the executable; its -gencert lies beside it")
    parser.add_argument("--serve", type=int, action="append", default=[], metavar="PORT")
    parser.add_argument("--option", action="append", default=[], metavar="ROLE:LINE")
    parser.add_argument("--relays", type=int, default=3, help="beside the three authorities, which relay too")
    parser.add_argument("--exits", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=120, help="seconds")
    return parser.parse_args()


def main():
    args = arguments()
    if args.flavour == "anon" and os.environ.get(TERMS) != "1":
        note(f"anon wants its operator's agreement to its network's terms; whoever gives it sets {TERMS}=1")
        return 2

    def end(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    network = None
    with tempfile.TemporaryDirectory(prefix="nonos-network-", ignore_cleanup_errors=True) as base:
        try:
            network = Network(args, Path(base))
            print(json.dumps(network.up()), flush=True)
            while sys.stdin.buffer.read(4096):
                pass
        except KeyboardInterrupt:
            pass
        except (NetworkError, OSError, subprocess.CalledProcessError) as error:
            note(error)
            return 1
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            if network:
                network.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
