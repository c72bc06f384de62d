// The page of the service: compares two sentences and searches collections, and shows how to ask the same elsewhere.
// Everything it asks goes to the service that it came from. What comes back is shown as text, never as HTML.
"use strict"

const TEXTS = {
  en: {
    "title": "Sentence vectors", "key": "Key of this service", "use-key": "Use it",
    "compare": "Compare two sentences", "first": "First sentence", "second": "Second sentence",
    "do-compare": "Compare", "from-first": "From the first sentence", "from-second": "From the second sentence",
    "token": "Token", "match": "Match", "cosine": "Cosine", "request": "The same request elsewhere",
    "matches-are": "Each token with the token of the other sentence whose vector of the last layer is the most similar.",
    "search": "Search a collection", "collection": "Collection", "query": "Text to search for", "count": "Results",
    "do-search": "Search",
    "model-is": (name, size) => `Model ${name}, vectors of ${size} numbers.`,
    "similarity-is": score => `Similarity: ${score}`,
    "found-are": (count, name) => `${count} ${count === 1 ? "text" : "texts"} of ${name}, the most similar first:`,
    "texts-are": (name, count) => `${name} (${count} texts)`,
    "no-store": "This service keeps no collections. Start it with: python -m harness serve --store my-store",
    "no-collection": "There is no collection yet. Make one, and add texts to it:",
    "working": "Computing …", "no-answer": "The service does not answer.",
  },
  zh: {
    "title": "句向量", "key": "本服务的密钥", "use-key": "使用",
    "compare": "比较两个句子", "first": "第一个句子", "second": "第二个句子",
    "do-compare": "比较", "from-first": "从第一个句子看", "from-second": "从第二个句子看",
    "token": "词元", "match": "对应", "cosine": "余弦", "request": "在别处发送同样的请求",
    "matches-are": "每个词元，以及另一句中最后一层向量与它最相似的词元。",
    "search": "搜索集合", "collection": "集合", "query": "要搜索的文本", "count": "结果数",
    "do-search": "搜索",
    "model-is": (name, size) => `模型 ${name}，向量有 ${size} 个数。`,
    "similarity-is": score => `相似度：${score}`,
    "found-are": (count, name) => `${name} 中最相似的 ${count} 段文本，按相似度从高到低：`,
    "texts-are": (name, count) => `${name}（${count} 段文本）`,
    "no-store": "本服务没有保存集合。启动时请加上 --store：python -m harness serve --store my-store",
    "no-collection": "还没有集合。请先新建一个，并加入文本：",
    "working": "计算中……", "no-answer": "服务没有响应。",
  },
}

const $ = id => document.getElementById(id)
let language = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"
let key = ""
const shown = new Map()  // by element: the function that writes its text in the present language

function say(name, ...values) {
  const text = TEXTS[language][name]
  return typeof text === "function" ? text(...values) : text
}

function show(element, write) {
  shown.set(element, write)
  write()
}

function showText(element, wrong, write) {
  show(element, () => {
    element.textContent = write()
    element.classList.toggle("wrong", wrong)
  })
}

function setLanguage(chosen) {
  language = chosen
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en"
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text)
  document.title = `BERT Atlas: ${say("title")}`
  $("language").textContent = language === "zh" ? "English" : "中文"
  $("language").lang = language === "zh" ? "en" : "zh"
  for (const write of shown.values()) write()
}

async function ask(path, body) {
  const headers = key ? {Authorization: `Bearer ${key}`} : {}
  if (body) headers["Content-Type"] = "application/json"
  let answer
  try {
    answer = await fetch(path, {method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body)})
  } catch {
    throw new Error(say("no-answer"))
  }
  if (answer.status === 401) $("key-form").hidden = false
  const said = await answer.json()
  if (!answer.ok) throw Object.assign(new Error(said.error ?? answer.statusText), {status: answer.status})
  return said
}

// -- the same request elsewhere --

const quoted = text => `'${text.replaceAll("'", "'\\''")}'`

function asCurl(path, body) {
  const header = key ? ' \\\n  -H "Authorization: Bearer $KEY"' : ""
  const json = `-H 'Content-Type: application/json'${header} \\\n  -d ${quoted(JSON.stringify(body))}`
  return `curl ${location.origin}/${path} ${json}`
}

function asPython(path, body) {
  const header = key ? ', headers={"Authorization": "Bearer " + os.environ["KEY"]}' : ""
  const post = `requests.post("${location.origin}/${path}", json=${JSON.stringify(body)}${header}, timeout=60)`
  return `${key ? "import os\n\n" : ""}import requests\n\nanswer = ${post}\nprint(answer.json())`
}

function block(title, text) {
  const head = document.createElement("h3"), code = document.createElement("pre")
  head.textContent = title
  code.textContent = text
  code.tabIndex = 0
  return [head, code]
}

function showRequest(details, path, body) {
  details.replaceChildren(details.firstElementChild, ...block("curl", asCurl(path, body)), ...block("Python", asPython(path, body)))
}

// -- comparing --

function fill(table, tokens, others, matches) {
  table.tBodies[0].replaceChildren(...matches.map((match, i) => {
    const row = document.createElement("tr")
    for (const text of [tokens[i], others[match.index] ?? "", match.score.toFixed(2)]) row.insertCell().textContent = text
    row.cells[2].className = "score"
    row.cells[2].style.setProperty("--share", Math.max(0, match.score))
    return row
  }))
}

const compareBody = () => ({first: $("first").value, second: $("second").value})
const showCompareRequest = () => showRequest($("compare-request"), "matches", compareBody())

async function compare(event) {
  event.preventDefault()
  const result = $("similarity")
  showText(result, false, () => say("working"))
  try {
    const said = await ask("matches", compareBody())
    showText(result, false, () => say("similarity-is", said.similarity.toFixed(3)))
    const [first, second] = $("matches").querySelectorAll("table")
    fill(first, said.tokens[0], said.tokens[1], said.matches[0])
    fill(second, said.tokens[1], said.tokens[0], said.matches[1])
    $("matches").hidden = false
  } catch (error) {
    $("matches").hidden = true
    showText(result, true, () => error.message)
  }
}

// -- searching --

const searchPath = () => `collections/${encodeURIComponent($("collection").value)}/search`
const searchBody = () => ({text: $("query").value, k: Number($("count").value)})
const showSearchRequest = () => showRequest($("search-request"), searchPath(), searchBody())

function entry(result) {
  const item = document.createElement("li"), about = document.createElement("span")
  const metadata = Object.entries(result.metadata).map(([name, value]) => `${name}: ${value}`)
  about.className = "about"
  about.textContent = [result.score.toFixed(3), result.id, ...metadata].join(" · ")
  item.append(result.text, about)
  return item
}

async function search(event) {
  event.preventDefault()
  const name = $("collection").value
  showText($("found"), false, () => say("working"))
  $("results").replaceChildren()
  try {
    const {results} = await ask(searchPath(), searchBody())
    showText($("found"), false, () => say("found-are", results.length, name))
    $("results").replaceChildren(...results.map(entry))
  } catch (error) {
    showText($("found"), true, () => error.message)
  }
}

function showCollections(found) {
  $("search").hidden = found.length === 0
  $("search-request").hidden = false
  $("collection").replaceChildren(...found.map(({name}) => new Option(name, name)))
  show($("collection"), () => found.forEach(({name, texts}, i) => {
    $("collection").options[i].textContent = say("texts-are", name, texts)
  }))
  showText($("no-collection"), false, () => found.length ? "" : say("no-collection"))
  if (found.length) return showSearchRequest()
  const add = {texts: ["Where is my parcel?", "A cat sat on the mat."]}
  const requests = [["collections", {name: "mine"}], ["collections/mine/add", add]]
  $("search-request").replaceChildren($("search-request").firstElementChild, ...requests.flatMap(
    ([path, body]) => [...block("curl", asCurl(path, body)), ...block("Python", asPython(path, body))]))
  $("search-request").open = true
}

async function start() {
  try {
    const info = await ask("info")
    showText($("model"), false, () => say("model-is", info.model_id, info.size))
    showCollections((await ask("collections")).collections)
  } catch (error) {
    if (error.status === 404) showText($("no-collection"), false, () => say("no-store"))
    else showText($("model"), true, () => error.message)
    $("search-request").hidden = true
  }
  showCompareRequest()
}

$("language").addEventListener("click", () => setLanguage(language === "zh" ? "en" : "zh"))
$("key-form").addEventListener("submit", event => {
  event.preventDefault()
  key = $("key").value.trim()
  start()
})
$("compare").addEventListener("submit", compare)
$("compare").addEventListener("input", showCompareRequest)
$("search").addEventListener("submit", search)
$("search").addEventListener("input", showSearchRequest)
setLanguage(language)
start()
