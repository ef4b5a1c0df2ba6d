#!/usr/bin/env python3
"""Downloads the data sets of data/sources.json into a directory for --data / $PTQ_DATA.

    python3 data/prepare.py DIR [SET ...]        all sets but the large ones, or only those named
    python3 data/prepare.py DIR --check          what is there, without a network

Every file whose publisher's sha256 is known is verified, by its own or that of the archive it comes from, before it
appears under its name; files that are there already are not downloaded again. Needs only the standard library.
"""
import argparse, gzip, hashlib, json, os, shutil, sys, tarfile, tempfile, urllib.request, zipfile
from pathlib import Path


class BadData(Exception):
    pass


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def verify(path, expected, what):
    if expected and (found := sha256(path)) != expected:
        raise BadData(f"{what}: sha256 is {found}, expected {expected}")


def download(url, target):
    with urllib.request.urlopen(url, timeout=120) as response, open(target, "wb") as out:
        shutil.copyfileobj(response, out, 1 << 20)


def first_lines(url, count, target):
    """The head of a gzip'ed text, without downloading the rest."""
    with urllib.request.urlopen(url, timeout=120) as response, gzip.GzipFile(fileobj=response) as text:
        with open(target, "wb") as out:
            for _ in range(count):
                out.write(text.readline())


def unpack_folder(archive, folder, target):
    """The regular files that lie in this folder of a tar archive, and nothing that is elsewhere."""
    target.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            parent, _, name = member.name.removeprefix("./").rpartition("/")
            if member.isfile() and parent == folder:
                with open(target / name, "wb") as out:
                    shutil.copyfileobj(tar.extractfile(member), out, 1 << 20)


def unpack_member(archive, member, target):
    with zipfile.ZipFile(archive) as z, z.open(member) as source, open(target, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def install(part, directory, entry):
    """Moves a finished file or folder to its name, if it is the right one."""
    if "folder" in entry:
        if (found := len(list(part.iterdir()))) != entry["count"]:
            raise BadData(f"{entry['name']}: {found} files in {entry['folder']}, expected {entry['count']}")
    else:
        verify(part, entry.get("sha256"), entry["name"])
    target = directory / entry["name"]
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, target)


def fetch(source, directory):
    with tempfile.TemporaryDirectory(dir=directory, prefix=".download-") as temporary:
        part = Path(temporary) / "part"
        archive = Path(temporary) / "archive"
        for entry in source["files"]:
            if state(entry, directory) != "missing":
                continue
            if "lines" in entry:
                first_lines(source["url"], entry["lines"], part)
            elif source["url"].endswith("/"):
                download(source["url"] + Path(entry["name"]).name, part)
            else:
                if not archive.exists():
                    download(source["url"], archive)
                    verify(archive, source.get("sha256"), source["url"])
                if "folder" in entry:
                    unpack_folder(archive, entry["folder"], part)
                else:
                    unpack_member(archive, entry["member"], part)
            install(part, directory, entry)


def state(entry, directory):
    path = directory / entry["name"]
    if path.is_dir():
        found = len(list(path.iterdir()))
        if found == entry.get("count", found):
            return f"{found} files"
        return f"{found} files, expected {entry['count']} (delete it to download again)"
    if not path.exists():
        return "missing"
    expected = entry.get("sha256")
    if not expected:
        return "present"
    return "ok" if sha256(path) == expected else "present, differs from the publisher's file (delete it to download again)"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("sets", nargs="*", metavar="SET")
    parser.add_argument("--check", action="store_true", help="only report what is there")
    parser.add_argument("--sources", type=Path, default=Path(__file__).with_name("sources.json"))
    args = parser.parse_args()

    sources = json.loads(args.sources.read_text())
    if unknown := set(args.sets) - set(sources):
        parser.error(f"unknown set {', '.join(sorted(unknown))}; known: {', '.join(sources)}")
    args.directory.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in args.sets or sources:
        source = sources[name]
        absent = any(state(entry, args.directory) == "missing" for entry in source["files"])
        if absent and "manual" in source:
            print(f"{name}: not there; {source['manual']}")
            failed |= name in args.sets
            continue
        if absent and "large" in source and name not in args.sets:
            print(f"{name}: not there; {source['large']}, downloaded only when it is named: prepare.py DIR {name}")
            continue
        if absent and not args.check:
            print(f"{name}: downloading {source['url']} ({source['licence']})", flush=True)
            try:
                fetch(source, args.directory)
            except (BadData, OSError, EOFError, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed = True
        for entry in source["files"]:
            found = state(entry, args.directory)
            failed |= found == "missing"
            print(f"{name}: {entry['name']}: {found}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
