"""A page as a list of blocks, and its two forms: one HTML file with everything inside, and Markdown with figures."""

import base64
import dataclasses
import html

CSS = """
:root { color-scheme: light }
body { font: 16px/1.5 "DejaVu Sans", Verdana, sans-serif; color: #1a1a1a }
body { margin: 0 auto; max-width: 62rem; padding: 0 1rem 3rem }
h1 { font-size: 1.6rem } h3 { font-size: 1.08rem }
h2 { font-size: 1.3rem; border-bottom: 1px solid #bbb; margin-top: 2.5rem }
.scroll { overflow-x: auto; margin: .6rem 0 1.2rem }
table { border-collapse: collapse; font-size: .82rem; line-height: 1.35 }
th, td { padding: .22rem .55rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top }
th { background: #f2f2f2 } td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.supported { background: #d5ecf7 } .contradicted { background: #fbdcc4 } .undecided { background: #ececec }
.verdict { font-weight: bold; white-space: nowrap }
figure { margin: 1.2rem 0; break-inside: avoid }
figure img { max-width: 100%; height: auto } figcaption { font-size: .85rem }
.caveat { border-left: 4px solid #d55e00; padding: .3rem .8rem; background: #fdf3ea }
details { margin: .4rem 0 1rem } summary { cursor: pointer }
nav li { display: inline; margin-right: 1rem } nav ul { padding: 0 }
@media print {
  body { max-width: none; font-size: 9.5pt } .scroll { overflow: visible } table { font-size: 7.5pt }
  tr { break-inside: avoid } nav { display: none }
}
"""
VERDICTS = ("supported", "contradicted", "undecided")


@dataclasses.dataclass
class Heading:
    text: str
    level: int = 2
    anchor: str = ""


@dataclasses.dataclass
class Text:
    text: str
    caveat: bool = False


@dataclasses.dataclass
class Items:
    items: list


@dataclasses.dataclass
class Table:
    """`rows` are lists of texts. A column is set to the right if it is in `numbers`. `folded`: shown when asked for."""

    columns: list
    rows: list
    numbers: tuple = ()
    folded: str = ""


@dataclasses.dataclass
class Picture:
    """A figure by the stem of its files; `embedded` False: only named, its files lie beside the page."""

    stem: str
    title: str
    caption: str
    embedded: bool = True


def verdict_class(text):
    """What a cell of this text is coloured as: it begins with a verdict, or is nothing special."""
    return next((v for v in VERDICTS if text == v or text.startswith(v + " (")), "")


def html_table(table):
    out = ['<div class="scroll"><table><thead><tr>']
    out += [f"<th>{html.escape(c)}</th>" for c in table.columns]
    out.append("</tr></thead><tbody>")
    for row in table.rows:
        out.append("<tr>")
        for i, cell in enumerate(row):
            verdict = verdict_class(cell)
            kind = f"verdict {verdict}" if verdict else "number" if i in table.numbers else ""
            out.append(f'<td class="{kind}">' if kind else "<td>")
            out.append(html.escape(cell) + "</td>")
        out.append("</tr>\n")
    out.append("</tbody></table></div>\n")
    text = "".join(out)
    return f"<details><summary>{html.escape(table.folded)}</summary>{text}</details>\n" if table.folded else text


def html_block(block, figures):
    if isinstance(block, Heading):
        anchor = f' id="{block.anchor}"' if block.anchor else ""
        return f"<h{block.level}{anchor}>{html.escape(block.text)}</h{block.level}>\n"
    if isinstance(block, Text):
        kind = ' class="caveat"' if block.caveat else ""
        return f"<p{kind}>{html.escape(block.text)}</p>\n"
    if isinstance(block, Items):
        return "<ul>" + "".join(f"<li>{html.escape(i)}</li>" for i in block.items) + "</ul>\n"
    if isinstance(block, Table):
        return html_table(block)
    caption = f"<figcaption><b>{html.escape(block.title)}.</b> {html.escape(block.caption)}</figcaption>"
    if not block.embedded:
        return f"<figure>{caption}<p>figures/{html.escape(block.stem)}.png, .pdf</p></figure>\n"
    data = base64.b64encode((figures / f"{block.stem}.png").read_bytes()).decode()
    return (
        f'<figure id="{block.stem}"><img alt="{html.escape(block.title)}" src="data:image/png;base64,{data}">'
        f"{caption}</figure>\n"
    )


def to_html(title, blocks, figures):
    """One self-contained page; `figures` is the directory with the pictures."""
    links = "".join(
        f'<li><a href="#{b.anchor}">{html.escape(b.text)}</a></li>'
        for b in blocks
        if isinstance(b, Heading) and b.level == 2 and b.anchor
    )
    body = "".join(html_block(b, figures) for b in blocks)
    first, rest = body.split("</h1>\n", 1) if "</h1>\n" in body else ("", body)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title>'
        f"<style>{CSS}</style></head><body>\n{first}</h1>\n<nav><ul>{links}</ul></nav>\n{rest}</body></html>\n"
    )


def markdown_text(text):
    """Text without accidental markup."""
    for character in "\\`*_<>|#":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")


def markdown_table(table):
    rows = [[markdown_text(c) for c in row] for row in [table.columns, *table.rows]]
    for row in rows[1:]:
        for i, cell in enumerate(row):
            if verdict_class(cell):
                row[i] = f"**{cell}**"
    ruler = ["---:" if i in table.numbers else "---" for i in range(len(table.columns))]
    text = "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ruler, *rows[1:]])
    if table.folded:
        return f"<details><summary>{html.escape(table.folded)}</summary>\n\n{text}\n\n</details>"
    return text


def markdown_block(block, figures):
    if isinstance(block, Heading):
        return "#" * block.level + " " + markdown_text(block.text)
    if isinstance(block, Text):
        return ("> " if block.caveat else "") + markdown_text(block.text)
    if isinstance(block, Items):
        return "\n".join("* " + markdown_text(i) for i in block.items)
    if isinstance(block, Table):
        return markdown_table(block)
    caption = f"**{markdown_text(block.title)}.** {markdown_text(block.caption)}"
    return (
        f"![{markdown_text(block.title)}]({figures}/{block.stem}.png)\n\n{caption}"
        if block.embedded
        else f"{caption} ({figures}/{block.stem}.png)"
    )


def to_markdown(blocks, figures):
    """`figures`: the figures' directory as links name it."""
    return "\n\n".join(markdown_block(b, figures) for b in blocks) + "\n"
