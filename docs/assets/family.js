// The family page: members that do not fit the filter fade, and branches without one that fits are hidden. What is
// asked is in the address, so that it can be shared. `fold` is in search.js.

function filterFamily() {
  const form = document.getElementById("family-filter")
  if (!form) return
  const branches = [...document.querySelectorAll("details.branch")]
  const members = [...document.querySelectorAll("svg.family .member")]
  const texts = new Map(members.map((each) => [each, fold(each.textContent)]))
  const ways = [...form.querySelectorAll("[name=by]")]
  const opened = new Map(branches.map((each) => [each, each.open]))
  const count = document.getElementById("family-count")
  const all = count.textContent

  function apply() {
    const words = fold(form.words.value).split(/\s+/).filter(Boolean)
    const by = new Set(ways.filter((each) => each.checked).map((each) => each.value))
    const language = form.language.value
    const fits = (member) =>
      words.every((word) => texts.get(member).includes(word)) &&
      by.has(member.dataset.by) &&
      (!language || member.dataset.language.split(" ").includes(language))
    const active = words.length || language || by.size < ways.length
    let total = 0
    for (const branch of branches) {
      const own = [...branch.querySelectorAll(".member")]
      const found = own.filter(fits)
      for (const each of own) each.classList.toggle("dim", !found.includes(each))
      branch.hidden = !found.length
      branch.open = active ? found.length > 0 : opened.get(branch)
      const number = branch.querySelector(".number")
      const { all } = number.dataset
      number.textContent = active ? form.dataset.words.replace("{n}", found.length).replace("{all}", all) : all
      total += found.length
    }
    count.textContent = active ? form.dataset.words.replace("{n}", total).replace("{all}", members.length) : all
    const state = new URLSearchParams()
    if (form.words.value) state.set("words", form.words.value)
    if (language) state.set("language", language)
    if (by.size < ways.length) state.set("by", [...by].join(","))
    history.replaceState(null, "", (state.size ? "?" + state : location.pathname) + location.hash)
  }

  const asked = new URLSearchParams(location.search)
  form.words.value = asked.get("words") ?? ""
  form.language.value = asked.get("language") ?? ""
  if (form.language.selectedIndex < 0) form.language.value = ""
  if (asked.has("by")) for (const each of ways) each.checked = asked.get("by").split(",").includes(each.value)
  form.addEventListener("input", apply)
  form.addEventListener("submit", (event) => event.preventDefault())
  if (location.search) apply()
}

filterFamily()
