// Rows of a board side by side: two or three that are ticked, whose names are in the address.

function compareRows() {
  const section = document.getElementById("compare")
  const rows = [...document.querySelectorAll(".bar-row")]
  if (!section || rows.length < 2) return
  const most = 3
  const box = (row) => row.querySelector(".pick")
  const named = new URLSearchParams(location.hash.slice(1)).get("compare")?.split(",") ?? []

  function element(name, text = "") {
    const made = document.createElement(name)
    made.textContent = text
    return made
  }

  function show() {
    const picked = rows.filter((row) => box(row).checked)
    rows.forEach((row) => { box(row).disabled = picked.length >= most && !box(row).checked })
    const names = picked.map((row) => row.dataset.name)
    history.replaceState(null, "", names.length ? "#compare=" + names.join(",") : location.pathname + location.search)
    section.replaceChildren()
    section.hidden = !picked.length
    if (picked.length < 2) {
      section.append(element("p", section.dataset.none))
      section.firstChild.className = "meta"
      return
    }
    const table = element("table")
    const head = table.createTHead().insertRow()
    for (const text of [section.dataset.what, ...names]) {
      const cell = element("th", text)
      cell.scope = "col"
      head.append(cell)
    }
    const body = table.createTBody()
    picked[0].querySelectorAll("dt").forEach((term, number) => {
      const line = body.insertRow()
      const name = element("th", term.textContent)
      name.scope = "row"
      line.append(name)
      for (const row of picked) line.insertCell().append(...row.querySelectorAll("dd")[number].cloneNode(true).childNodes)
    })
    const command = element("p", section.dataset.more + " ")
    command.append(element("code", `python -m harness compare ${names[0]} ${names[1]} --runs results`))
    section.append(table, command)
  }

  for (const row of rows) {
    box(row).hidden = false
    box(row).checked = named.includes(row.dataset.name)
    box(row).addEventListener("change", show)
    if (box(row).checked) row.closest("details.rest")?.setAttribute("open", "")
  }
  show()
}

compareRows()
