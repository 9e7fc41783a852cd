// What a card says about its desktop: a chip, a sentence, and what can be done. Pure; knows nothing of drawing.
import type { Card } from '../api/types';
import { text } from '../text';

/** Colours a chip: `good` runs, `calm` waits for the user, `busy` is under way, `bad` needs someone. */
export type Tone = 'good' | 'calm' | 'busy' | 'bad';

export interface Condition {
  /** The chip's words. */
  chip: string;
  tone: Tone;
  /** Why it is so and what to do; empty when the chip says it all. */
  detail: string;
  /** The primary action's words, or null when connecting can't succeed. */
  connect: string | null;
  /** There is a desktop to destroy. */
  canLogOff: boolean;
  /** There is something to look at without taking it over. */
  canView: boolean;
  /** There is a picture to show. */
  hasPicture: boolean;
  /** 0 to 100 while a template is being made and the share is known. */
  progress: number | null;
  /** Things change by themselves soon: look again sooner. */
  moving: boolean;
}

export function conditionOf(card: Card): Condition {
  const base: Condition = {
    chip: text.chip.notStarted,
    tone: 'calm',
    detail: card.detail,
    connect: text.portal.connect,
    canLogOff: card.session !== null && card.session.state !== 'ended',
    canView: false,
    hasPicture: false,
    progress: null,
    moving: false,
  };
  const preparing: Condition = {
    ...base,
    chip: text.chip.preparing(card.progress),
    tone: 'busy',
    detail: card.detail || text.card.preparing,
    connect: text.portal.wait,
    progress: card.progress,
    moving: true,
  };
  const desktop = card.desktop;
  if (desktop === null) {
    if (card.availability === 'available') return base;
    if (card.availability === 'preparing') return preparing;
    const detail = card.detail || text.card.unavailable;
    return { ...base, chip: text.chip.unavailable, tone: 'bad', detail, connect: null };
  }
  const running = { ...base, canLogOff: card.session !== null, connect: text.portal.resume };
  switch (desktop.phase) {
    case 'ready':
      if (card.session?.state === 'connected') {
        const there = (card.session.viewers ?? []).filter((viewer) => viewer.role === 'owner');
        const detail = text.portal.inUse(there);
        const words = { chip: text.chip.inUse, detail, connect: text.portal.takeOver, canView: true };
        return { ...running, ...words, tone: 'good', hasPicture: true };
      }
      return { ...running, chip: text.chip.ready, tone: 'good', hasPicture: true };
    case 'preparing':
      return { ...preparing, canLogOff: base.canLogOff };
    case 'unplaced':
    case 'placing':
    case 'starting': {
      const words = { chip: text.chip.starting, detail: desktop.detail || card.detail };
      return { ...base, ...words, tone: 'busy', connect: text.portal.wait, moving: true };
    }
    case 'stopping':
    case 'stopped': {
      if (desktop.persistent) {
        const detail = sentence(desktop.detail).trim() || text.card.poweringOff;
        const words = { chip: text.chip.stopping, detail };
        return { ...base, ...words, tone: 'busy', connect: text.portal.wait, canLogOff: false, moving: true };
      }
      const words = { chip: text.chip.loggingOff, detail: text.card.stopping };
      return { ...base, ...words, tone: 'busy', connect: null, canLogOff: false, moving: true };
    }
    case 'off': {
      const words = { chip: text.chip.off, detail: desktop.detail || text.card.off };
      return { ...base, ...words, tone: 'calm', connect: text.portal.start };
    }
    case 'suspended': {
      const words = { chip: text.chip.suspended, detail: desktop.detail || text.card.suspended };
      return { ...base, ...words, tone: 'calm', connect: text.portal.resume };
    }
    case 'lost': {
      const words = { chip: text.chip.unavailable, detail: desktop.detail || text.card.lost };
      return { ...running, ...words, tone: 'bad', connect: null };
    }
    case 'failed': {
      const words = { chip: text.chip.failed, detail: sentence(desktop.detail) + text.card.failed };
      return { ...running, ...words, tone: 'bad', connect: null };
    }
  }
}

/** A host's reason as a sentence of its own, followed by a space; nothing for an empty one. */
function sentence(reason: string): string {
  const trimmed = reason.trim();
  if (trimmed === '') return '';
  const first = trimmed[0] ?? '';
  return `${first.toUpperCase()}${trimmed.slice(1)}${/[.!?]$/.test(trimmed) ? '' : '.'} `;
}
