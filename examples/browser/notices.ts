import { byId, make } from './dom.js';

/** What a notice is about: a new one of the same topic takes the place of the old one. */
export type Topic = 'device' | 'storage' | 'kept' | 'hidden' | 'file' | 'data' | 'training' | 'note';

export interface Action {
  readonly name: string;
  readonly run: () => void;
}

/**
 * Shows a sentence at the top of the page until it is closed or replaced; one that `stays` cannot be closed. Trouble is read
 * out at once.
 */
export function notify(
  topic: Topic,
  text: string,
  options: { trouble?: boolean; stays?: boolean; actions?: readonly Action[] } = {},
): void {
  clearNotice(topic);
  const notice = make('div', { className: options.trouble ? 'notice trouble' : 'notice', id: `notice-${topic}` });
  notice.setAttribute('role', options.trouble ? 'alert' : 'status');
  notice.append(make('p', {}, text));
  for (const [i, { name, run }] of (options.actions ?? []).entries()) {
    const button = make('button', { type: 'button', className: i === 0 ? 'main' : '' }, name);
    button.addEventListener('click', () => {
      notice.remove();
      run();
    });
    notice.append(button);
  }
  if (!options.stays) {
    const close = make('button', { type: 'button' }, 'Close');
    close.addEventListener('click', () => notice.remove());
    notice.append(close);
  }
  byId('notices').append(notice);
}

export function clearNotice(topic: Topic): void {
  document.getElementById(`notice-${topic}`)?.remove();
}
