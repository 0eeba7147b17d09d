"""Make a small shop in Chinese: 320 wares of eight kinds with a sentence each, and people who buy mostly of two kinds.

    python tools/make_chinese_catalogue.py .data/chinese        # what conf/from_scratch_chinese.yaml reads

Everything is made up, by a fixed seed; it shows that nothing in the pipeline depends on spaces between words or on a
pre-trained model, and no quality can be claimed from it.
"""

import json
import random
import sys
from pathlib import Path

# kind: (wares, qualities, sentences)
KINDS = {
    "茶叶": (
        ["龙井茶", "铁观音", "普洱茶", "碧螺春", "大红袍", "茉莉花茶", "白毫银针", "祁门红茶"],
        ["明前", "特级", "陈年", "高山", "手工炒制"],
        ["茶汤清澈，回甘持久", "叶片完整，香气高扬", "冲泡三次仍有余香", "适合每天下午慢慢品饮"],
    ),
    "运动鞋": (
        ["跑步鞋", "篮球鞋", "登山鞋", "网球鞋", "训练鞋", "越野鞋", "健步鞋", "足球鞋"],
        ["轻便", "透气", "防滑", "减震", "耐磨"],
        ["鞋底柔软，落地稳定", "网面透气，长跑不闷脚", "包裹性好，转向灵活", "适合清晨在公园跑步"],
    ),
    "手机": (
        ["智能手机", "折叠手机", "游戏手机", "拍照手机", "老人手机", "商务手机", "三防手机", "全面屏手机"],
        ["大电池", "高刷新率", "超薄", "快充", "双卡"],
        ["屏幕清晰，触控灵敏", "夜间拍摄画面明亮", "充电十分钟可通话两小时", "处理器强劲，运行流畅"],
    ),
    "小说": (
        ["武侠小说", "科幻小说", "侦探小说", "历史小说", "言情小说", "悬疑小说", "童话集", "短篇小说集"],
        ["精装", "插图版", "典藏版", "签名本", "珍藏"],
        ["情节曲折，读来不忍释手", "人物鲜明，文笔细腻", "一个关于勇气与友情的故事", "适合夜晚在灯下阅读"],
    ),
    "厨具": (
        ["炒锅", "菜刀", "蒸笼", "砂锅", "电饭煲", "砧板", "汤勺", "平底锅"],
        ["不锈钢", "铸铁", "不粘", "竹制", "陶瓷"],
        ["受热均匀，不易糊底", "刀刃锋利，切菜省力", "容易清洗，经久耐用", "适合家庭日常炒菜煲汤"],
    ),
    "护肤品": (
        ["面霜", "洗面奶", "防晒霜", "精华液", "面膜", "爽肤水", "护手霜", "润唇膏"],
        ["保湿", "温和", "清爽", "滋润", "无香"],
        ["质地轻薄，容易吸收", "敏感肌肤也能安心使用", "洗后不紧绷，皮肤柔嫩", "适合秋冬干燥的季节"],
    ),
    "玩具": (
        ["积木", "毛绒熊", "遥控车", "拼图", "风筝", "洋娃娃", "小火车", "陀螺"],
        ["木制", "益智", "彩色", "可爱", "大号"],
        ["边角圆润，孩子玩得放心", "锻炼孩子的动手能力", "颜色鲜艳，深受小朋友喜爱", "适合三岁以上儿童"],
    ),
    "家具": (
        ["书桌", "衣柜", "沙发", "餐椅", "床头柜", "书架", "茶几", "鞋柜"],
        ["实木", "北欧风", "折叠", "简约", "复古"],
        ["结构稳固，承重力强", "安装简单，节省空间", "纹理自然，手感温润", "适合小户型的客厅与卧室"],
    ),
}


def main(folder: Path) -> None:
    draw = random.Random(7)
    items = [
        {"item_id": f"{kind_number}{ware_number:02d}{number}", "kind": kind, "title": quality + ware, "text": sentence}
        for kind_number, (kind, (wares, qualities, sentences)) in enumerate(KINDS.items())
        for ware_number, ware in enumerate(wares)
        for number, quality in enumerate(qualities)
        for sentence in [draw.choice(sentences)]
    ]
    by_kind = {kind: [item["item_id"] for item in items if item["kind"] == kind] for kind in KINDS}
    events = []
    for user in range(400):
        first, second = draw.sample(list(KINDS), 2)
        for _ in range(12):
            kind = draw.choices([first, second, draw.choice(list(KINDS))], [6, 3, 1])[0]
            at = draw.randrange(1_700_000_000, 1_710_000_000)
            events.append({"user_id": user, "item_id": draw.choice(by_kind[kind]), "timestamp": at})
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("items", items), ("events", events)):
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(items)} items, {len(events)} events in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".data/chinese"))
