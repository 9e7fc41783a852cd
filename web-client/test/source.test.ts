// Rules that the whole source keeps, checked on the source itself.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const files = (folder: string): string[] =>
  readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? files(path) : [path];
  });
const source = files('src').filter((path) => /\.tsx?$/.test(path));

it('keeps nothing in the browser’s stores', () => {
  const stores = /\b(localStorage|sessionStorage|indexedDB|caches\.|serviceWorker|document\.cookie)/;
  expect(source.filter((path) => stores.test(readFileSync(path, 'utf8')))).toEqual([]);
});

it('needs nothing that the content security policy forbids', () => {
  const forbidden = /dangerouslySetInnerHTML|innerHTML|\beval\(|new Function|\bstyle=/;
  expect(source.filter((path) => forbidden.test(readFileSync(path, 'utf8')))).toEqual([]);
});
