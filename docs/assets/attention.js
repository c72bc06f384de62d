// The map of attention: choose a head from lists or from small pictures of all, and a token to see where it looks.

function exploreAttention() {
  const figure = document.getElementById("map")
  if (!figure || !window.attention) return
  const { pieces, attention } = window.attention
  const [layers, heads, size] = [attention.length, attention[0].length, pieces.length]
  const layer = figure.querySelector(".layer")
  const head = figure.querySelector(".which")
  const sentence = figure.querySelector(".sentence")
  const said = figure.querySelector(".said")
  const canvas = figure.querySelector("canvas")
  const rows = [...figure.querySelectorAll("tbody tr")]
  let token = Number(figure.dataset.token)
  const matrix = () => attention[layer.value - 1][head.value - 1]

  const buttons = pieces.map((piece, number) => {
    const button = document.createElement("button")
    button.type = "button"
    button.textContent = piece
    for (const event of ["mouseenter", "focus", "click"]) button.addEventListener(event, () => look(number))
    sentence.append(button, " ")
    return button
  })

  function look(number) {
    token = number
    const shares = matrix()[token]
    buttons.forEach((button, place) => {
      button.style.setProperty("--a", shares[place])
      button.setAttribute("aria-pressed", place === token)
    })
    rows.forEach((row, place) => row.classList.toggle("chosen", place === token))
    const order = shares.map((share, place) => [share, place]).sort((a, b) => b[0] - a[0])
    const list = order.slice(0, 3).filter(([share]) => share).map(([share, place]) => `${pieces[place]} ${share}%`)
    said.textContent = said.dataset.words.replace("{piece}", pieces[token]).replace("{list}", list.join(", "))
  }

  function show() {
    rows.forEach((row, number) => [...row.querySelectorAll("td")].forEach((cell, place) => {
      const share = matrix()[number][place]
      cell.textContent = share || ""
      cell.style.setProperty("--a", share)
    }))
    figure.querySelector(".at").textContent = figure.dataset.words.replace("{layer}", layer.value).replace("{head}", head.value)
    look(token)
    draw()
  }

  // All heads in small, a row for each layer. Colours are the page's, so it is drawn again when the scheme changes.
  function draw() {
    const dot = 2, step = size * dot + 4
    const ratio = window.devicePixelRatio || 1
    canvas.width = heads * step * ratio
    canvas.height = layers * step * ratio
    canvas.style.width = `${heads * step}px`
    const brush = canvas.getContext("2d")
    brush.scale(ratio, ratio)
    const style = getComputedStyle(figure)
    const [ink, mark, water] = ["--link", "--mark", "--water"].map((name) => style.getPropertyValue(name))
    attention.forEach((ofLayer, down) => ofLayer.forEach((ofHead, right) => {
      const [x, y] = [right * step + 2, down * step + 2]
      const chosen = down === layer.value - 1 && right === head.value - 1
      brush.globalAlpha = 1
      brush.fillStyle = water
      brush.fillRect(x, y, size * dot, size * dot)
      brush.fillStyle = chosen ? mark : ink
      ofHead.forEach((row, i) => row.forEach((share, j) => {
        brush.globalAlpha = Math.min(1, share / 60)
        if (share) brush.fillRect(x + j * dot, y + i * dot, dot, dot)
      }))
      brush.globalAlpha = 1
      brush.strokeStyle = mark
      brush.lineWidth = 2
      if (chosen) brush.strokeRect(x - 1, y - 1, size * dot + 2, size * dot + 2)
    }))
  }

  function choose(ofLayer, ofHead) {
    layer.value = ofLayer
    head.value = ofHead
    show()
  }

  rows.forEach((row, number) => row.addEventListener("mouseenter", () => look(number)))
  for (const list of [layer, head]) list.addEventListener("change", show)
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect()
    const place = (at, length, count) => Math.min(count, 1 + Math.floor((at / length) * count))
    choose(place(event.clientY - box.top, box.height, layers), place(event.clientX - box.left, box.width, heads))
  })
  document.querySelectorAll(".heads a").forEach((link) =>
    link.addEventListener("click", () => choose(link.dataset.layer, link.dataset.head)))
  new MutationObserver(draw).observe(document.body, { attributeFilter: ["data-md-color-scheme"] })
  for (const part of figure.querySelectorAll("[hidden]")) part.hidden = false
  show()
}

exploreAttention()
