// What pages do beyond being read: sort tables, remember the chosen language.

// A click on a column's name sorts by it, another turns the order round. Where a table has several bodies, the rows of
// each stay together, and the first number among them counts.
function sortTable(table) {
  const headers = [...table.tHead.rows[0].cells]
  const language = document.documentElement.lang
  headers.forEach((header, column) => {
    header.querySelector("button")?.addEventListener("click", () => {
      const ascending = header.getAttribute("aria-sort") !== "ascending"
      const grouped = table.tBodies.length > 1
      const text = (cell) => (cell.querySelector(".state") ? "–" : cell.textContent.trim())
      const cell = (row) => row.cells[column].dataset.value ?? text(row.cells[column])
      const value = (unit) => (grouped ? [...unit.rows] : [unit]).map(cell).find((each) => each !== "–") ?? "–"
      const order = (a, b) => value(a).localeCompare(value(b), language, { numeric: true })
      const numbers = (a, b) => value(a) - value(b)
      const rows = [...(grouped ? table.tBodies : table.tBodies[0].rows)]
      const missing = rows.filter((row) => value(row) === "–")
      const present = rows.filter((row) => value(row) !== "–")
      present.sort(present.every((row) => value(row) !== "" && !isNaN(value(row))) ? numbers : order)
      if (!ascending) present.reverse()
      const place = grouped ? table : table.tBodies[0]
      place.append(...present, ...missing) // what was not measured stays last
      headers.forEach((each) => each.removeAttribute("aria-sort"))
      header.setAttribute("aria-sort", ascending ? "ascending" : "descending")
    })
  })
}

function rememberLanguage() {
  document.querySelector("a.language")?.addEventListener("click", (event) => {
    try {
      localStorage.setItem("language", event.currentTarget.dataset.language)
    } catch { /* no storage: the choice holds for this page */ }
  })
}

document.querySelectorAll("table.sortable").forEach(sortTable)
rememberLanguage()
