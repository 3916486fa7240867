// Buttons that do something: only where the emperor allows it, and then with its secret.

const ACTS = [
  { verb: "reload", label: "Reload", when: (state) => !["stopped", "stopping"].includes(state) },
  { verb: "start", label: "Start", when: (state) => ["stopped", "throttled"].includes(state) },
  { verb: "stop", label: "Stop", sure: "Really stop?", when: (state) => state !== "stopped" },
];
const DOUBT = 4000;

function buildActs() {
  const { acts, said } = detail.parts;
  if (!estate.answer?.actions) return;
  detail.parts.buttons = ACTS.map((act) => {
    const button = make("button", "", act.label);
    button.type = "button";
    button.addEventListener("click", () => press(button, act));
    acts.append(button);
    return { act, button };
  });
  acts.append(said);
}

function drawActs() {
  if (!detail.parts.buttons) return buildActs();
  const state = estate.vassals.get(detail.key)?.row.state;
  for (const { act, button } of detail.parts.buttons) button.hidden = !act.when(state);
}

function press(button, act) {
  if (act.sure && !button.classList.contains("sure")) {
    button.classList.add("sure");
    setText(button, act.sure);
    setTimeout(() => {
      button.classList.remove("sure");
      setText(button, act.label);
    }, DOUBT);
    return;
  }
  perform(act.verb);
}

async function perform(verb) {
  const { key, parts } = detail;
  const response = await ask(`vassal/${encodeURIComponent(nameOf(key))}/${verb}`, { method: "POST" }).catch(() => null);
  const answer = await response?.json().catch(() => null);
  setText(parts.said, plain(answer?.done || answer?.error || "no answer"));
  poll();
}
