// Explanations on hover and on focus: one bubble for the page, placed where it fits.
import { createContext, type ComponentChildren } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";

export const Definitions = createContext<Record<string, string>>({});

interface Shown {
  text: string;
  anchor: HTMLElement;
}
let show: (shown: Shown | null) => void = () => {};

const bubbleWidth = 300;

// Under its word, or above it where the window ends.
function place({ text, anchor }: Shown): { left: string; top: string } {
  const box = anchor.getBoundingClientRect();
  const height = Math.ceil(text.length / 44) * 18 + 16;
  const left = Math.max(8, Math.min(box.left, window.innerWidth - bubbleWidth - 16));
  const below = box.bottom + 6;
  const top = below + height > window.innerHeight ? Math.max(8, box.top - height - 6) : below;
  return { left: `${left}px`, top: `${top}px` };
}

export function TipLayer() {
  const [shown, setShown] = useState<Shown | null>(null);
  const [, redraw] = useState(0);
  show = setShown;
  useEffect(() => {
    const escape = (event: KeyboardEvent) => event.key === "Escape" && setShown(null);
    const follow = () => redraw((n) => n + 1);
    document.addEventListener("keydown", escape);
    window.addEventListener("scroll", follow, true);
    return () => {
      document.removeEventListener("keydown", escape);
      window.removeEventListener("scroll", follow, true);
    };
  }, []);
  return (
    <div id="tip" role="tooltip" class="tip" hidden={!shown} style={shown ? place(shown) : {}}>
      {shown?.text}
    </div>
  );
}

// Anything with an explanation. It can be reached with the keyboard; screen readers hear the text.
export function Tip({ text, children, class: extra = "" }: { text: string; children: ComponentChildren; class?: string }) {
  const self = useRef<HTMLSpanElement>(null);
  const open = () => show({ text, anchor: self.current! });
  const close = () => show(null);
  return (
    <span ref={self} class={`term ${extra}`} tabIndex={0} onMouseEnter={open} onMouseLeave={close} onFocus={open} onBlur={close}>
      {children}
      <span class="sr-only"> ({text})</span>
    </span>
  );
}

// A word of ours with its definition from the API; plain text when the API has none.
export function Term({ name, children }: { name: string; children: ComponentChildren }) {
  const text = useContext(Definitions)[name];
  return text ? <Tip text={text}>{children}</Tip> : <>{children}</>;
}
